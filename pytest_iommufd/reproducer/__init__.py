# SPDX-License-Identifier: GPL-2.0-only
"""Writes what a test did to the kernel as a program that needs neither pytest nor this package.

trace       what processes did while a test ran: the ops of their programs, and the results
values      what a number is: what an earlier call gave, a place in memory, or the test's own
script      a trace as statements: calls with their structs, checks of what they gave
translate   from the trace to the script; with origins, structs, processes
c, writer   the script as C, and as a TEST_F body of the kernel's selftest; with names, words
runtime.c   the functions that such a program consists of
syz         the script as a syzkaller program
"""
