"""Which measures predict that safety breaks, over models that are made safe by known mechanisms."""
