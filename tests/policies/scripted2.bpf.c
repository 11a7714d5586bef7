/* SPDX-License-Identifier: GPL-2.0-only */
/* A second puppet, for what two policies want of one knob. */
#include "scripted.h"

PUPPET(scripted2)
