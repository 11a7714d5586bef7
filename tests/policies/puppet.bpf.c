/* SPDX-License-Identifier: GPL-2.0-only */
#include "puppet.h"

PUPPET(puppet)
