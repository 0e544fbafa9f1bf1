# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel under test comes from: a spec in, a bootable image and its modules out.

In front are the spec, the resolver (a kernel once), the workspace (one that follows its tree), what
a kernel is and how two differ. Behind are `source` (trees and which they are), `series` (patches),
`build` (make and its folder) and `cache` (what is kept). Nothing here knows pytest, and nothing
costly is imported before something has to be built.
"""

from pytest_iommufd.host.progress import Progress
from pytest_iommufd.kernel.build.rebuild import rebuild_module
from pytest_iommufd.kernel.model import Kernel
from pytest_iommufd.kernel.resolver import ready, resolve

__all__ = ["Kernel", "Progress", "ready", "rebuild_module", "resolve"]
