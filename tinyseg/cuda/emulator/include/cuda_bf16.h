// The emulator: see cuda.h, which is included before every kernel.
#pragma once
