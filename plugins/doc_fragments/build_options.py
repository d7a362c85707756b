# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that image_build and image_build_progress have in common (module_utils/image_builds.py, SPEC)."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc shows for each of them."""

    DOCUMENTATION = r"""
options:
  name:
    description: Name of the image, with its tag.
    type: str
    required: true
  dir:
    description: Folder on the node with C(Dockerfile) and the files that it copies.
    type: path
    required: true
  folders:
    description: Name -> folder on the node whose files the build finds below that name. They are sent to the engine as they are read.
    type: dict
    default: {}
  args:
    description: Build arguments. Proxy variables among them are used by the build and kept nowhere in the image.
    type: dict
    default: {}
  labels:
    description: Labels of the image.
    type: dict
    default: {}
  network:
    description: Network of the build.
    type: str
    default: host
  need_mb:
    description: MiB that have to be free where the engine keeps its images.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Builds nothing.
  diff_mode:
    support: none
    description: There is no text to compare.
  platform:
    support: full
    platforms: posix
    description: Nodes with a Docker engine. Nothing else is needed there, neither its client program nor a Python library.
"""
