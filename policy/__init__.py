"""DatabasePolicies: whom they concern, what they demand, what is wrong with one. Asks nobody."""
