"""What the look-alike holds, by name (`marfetch.demo.recipe`)."""

from __future__ import annotations

from typing import Final

ALB: Final = "application-lb/charts/alb-controller"
MODULE: Final = "bicep/avm/res/storage/storage-account"
IMAGE: Final = "azurelinux/3.0/image/minimal-os"
