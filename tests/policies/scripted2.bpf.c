/* SPDX-License-Identifier: GPL-2.0-only */
/* A second scripted policy, for two constraints on one knob. */
#include "scripted.h"

SCRIPTED(scripted2)
