"""The Job: one process for one Operation. It calls the stored procedures, writes the Secret, reports, and exits.

Its start-up is budgeted, here and in what it imports of `api`. Records are named tuples: the module `dataclasses`
alone costs 10 ms, and each class of it four times what a named tuple does. One that holds a secret has a `repr` of its
own, without it.
"""
