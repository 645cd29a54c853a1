"""What a study is compared with."""
