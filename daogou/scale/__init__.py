"""The same stages by many processes, on one machine or several: Ray starts and watches them.

Everything here calls what one process calls, and leaves what one process leaves.
"""
