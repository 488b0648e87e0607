"""The contract between the programs: kinds, names, templates, and what controller and Job say to each other.

Pure: nothing here opens a connection, reads a clock or imports a Kubernetes client or a DBMS driver.
"""
