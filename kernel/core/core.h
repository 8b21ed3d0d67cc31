/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef _IST_CORE_H
#define _IST_CORE_H

#include "answer.h"
#include "checksum.h"
#include "connection.h"
#include "half.h"
#include "key.h"
#include "rewrite.h"
#include "segment.h"

#endif /* _IST_CORE_H */
