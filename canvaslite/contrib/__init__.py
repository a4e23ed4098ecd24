"""What goes with canvaslite but is no part of it: help for tests."""
