# SPDX-License-Identifier: GPL-2.0-only
"""Writes what a test did to the kernel as a program that needs neither pytest nor this package.

trace       what processes did while a test ran: the ops of their programs, and the results
values      where a number came from: an id from an earlier call, an address from a mapping
script      a trace as statements: calls with their structs, checks of what they gave
translate   from the trace to the script; with structs, origins, lookahead, processes, unused
c, writer   the script as C, and as a TEST_F body of the kernel's selftest
syz         the script as a syzkaller program
plugin      the options, and the files of a run
"""
