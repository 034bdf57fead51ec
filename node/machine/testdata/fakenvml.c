// A stand-in for NVIDIA's management library with three cards: one that tells everything,
// one that tells nonsense, and one that tells nothing.
#include <stdint.h>
#include <string.h>

static int started, refuse;
int fake_started(void) { return started; }
void fake_refuse(int code) { refuse = code; }

int nvmlInit_v2(void) { if (refuse) return refuse; started++; return 0; }
int nvmlShutdown(void) { started--; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 4; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, uintptr_t *d) { if (i == 3) return 15; *d = 10 + i; return 0; }
int nvmlDeviceGetName(uintptr_t d, char *s, unsigned n) {
  if (d == 12) return 3;
  if (d == 11) memset(s, 'A', n); // without an end
  else strcpy(s, "NVIDIA GeForce RTX 3060\x1b");
  return 0;
}
int nvmlDeviceGetMemoryInfo(uintptr_t d, uint64_t *m) {
  if (d == 12) return 3;
  m[0] = d == 10 ? 12884901888ull : ~0ull;
  m[1] = d == 10 ? 11811160064ull : ~0ull;
  m[2] = 0;
  return 0;
}
int nvmlDeviceGetPciInfo_v3(uintptr_t d, char *p) {
  if (d == 12) return 3;
  unsigned at[3] = {d == 10 ? 1 : 0x12345, 0x0A, 3};
  memset(p, 'x', 68);
  memcpy(p + 16, at, sizeof at);
  return 0;
}
int nvmlDeviceGetTemperature(uintptr_t d, int sensor, unsigned *t) { if (d == 12 || sensor) return 3; *t = d == 10 ? 47 : 4000; return 0; }
int nvmlDeviceGetPowerUsage(uintptr_t d, unsigned *mw) { if (d == 12) return 3; *mw = d == 10 ? 123500 : 4000000000u; return 0; }
