"""The application: what a program defines, configures, and asks for the rest."""
