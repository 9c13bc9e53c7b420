// app: the door is the list of commands.
#pragma once

#include "app/commands.h"  // IWYU pragma: export
