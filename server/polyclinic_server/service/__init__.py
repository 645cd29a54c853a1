"""The consortium service: enrolment on one listener, the rest under mutual TLS on another."""
