# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that others have built, used as they are: nothing is compiled, and nothing is written.

`image` is a bzImage's header, `module` a .ko file, `modules` a folder of these, `config` what a
.config promises, `place` where a kernel keeps all that, `packages` what distributions pack it in,
`refusal` what a guest says of what it could not take.
"""
