"""The controller: observe, plan (pure), apply. It turns requests into Operations and their Jobs."""
