/* SPDX-License-Identifier: GPL-2.0-only */
#include "scripted.h"

SCRIPTED(scripted)
