"""The Job: one process for one Operation. It calls the stored procedures, writes the Secret, reports, and exits.

Records are named tuples where they hold no secret: a dataclass takes four times as long to define, and every Job pays
for that. (A dataclass can keep a field out of its `repr`.)
"""
