"""A double of SQL Server, for machines where there is none: TDS 7.4 on the wire, failing as it fails.

What it knows of the protocol is from Microsoft's open specification [MS-TDS], written down here a second time and
independently of the driver, so that both cannot share a mistake.
"""
