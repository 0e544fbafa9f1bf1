# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel under test comes from: a spec in, a bootable image and its modules out.

`resolve` builds what is missing and remembers it; everything else serves it. Nothing here knows
pytest, and nothing costly (rich, apt) is imported before something has to be built.
"""

from pytest_iommufd.host.progress import Progress
from pytest_iommufd.kernel.build.rebuild import rebuild_module
from pytest_iommufd.kernel.model import Kernel
from pytest_iommufd.kernel.resolver import ready, resolve

__all__ = ["Kernel", "Progress", "ready", "rebuild_module", "resolve"]
