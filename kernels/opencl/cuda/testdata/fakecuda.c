// A stand-in for NVIDIA's libcuda on host memory, for tests of the loader. What is put on a
// stream is done only when something waits for it, so that a loader that reuses memory too
// early, or reads too early, gets wrong bytes. Kernels do nothing; their arguments are kept.
// fake_* are the test's own functions.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
enum { OK = 0, INVALID_VALUE = 1, NO_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500 };
#define CARDS 2
#define MEMORY (1u << 30)

static _Thread_local uintptr_t current;
static int retained[CARDS], resets, cards = CARDS;
static void copied(const char *name);
static long live_device, live_pinned, live_streams, live_events, live_modules, waits;
static uint64_t used;

// ---- failing on demand
static char fail_name[64];
static int fail_after, fail_code, sticky;
void fake_fail(const char *name, int after, int code) {
  strncpy(fail_name, name, sizeof fail_name - 1);
  fail_after = after;
  fail_code = code;
}
void fake_sticky(int code) { sticky = code; }
void fake_cards(int n) { cards = n; }
static int fill = 0xA5; // what new memory holds
void fake_fill(int byte) { fill = byte; }
static CUresult entered(const char *name, int context) {
  if (!strcmp(name, fail_name) && fail_after-- == 0) {
    fail_name[0] = 0;
    return fail_code;
  }
  if (!context) return OK;
  if (!current) return INVALID_CONTEXT;
  return sticky;
}
#define ENTER(context) do { CUresult r_ = entered(__func__, context); if (r_) return r_; } while (0)

// ---- what a test may ask
long fake_live(int what) {
  switch (what) {
  case 0: return live_device;
  case 1: return live_pinned;
  case 2: return live_streams;
  case 3: return live_events;
  case 4: return live_modules;
  case 5: return retained[0] + retained[1];
  case 6: return resets;
  case 7: return waits;
  }
  return -1;
}

// ---- start and devices
CUresult cuInit(unsigned flags) {
  ENTER(0);
  return flags ? INVALID_VALUE : cards ? OK : NO_DEVICE;
}
CUresult cuDriverGetVersion(int *v) { *v = 12040; return OK; }
CUresult cuGetErrorName(int e, const char **s) {
  if (e == 12345) return INVALID_VALUE;
  *s = e == NO_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_SOME";
  return OK;
}
CUresult cuGetErrorString(int e, const char **s) {
  if (e == 12345) return INVALID_VALUE;
  *s = e == NO_MEMORY ? "out of memory" : "the fake's words";
  return OK;
}
CUresult cuDeviceGetCount(int *n) { *n = cards; return OK; }
CUresult cuDeviceGet(int *d, int i) {
  if (i < 0 || i >= cards) return 101;
  *d = 70 + i;
  return OK;
}
CUresult cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 70 ? "Fake GTX" : "Fake Old", n); return OK; }
CUresult cuDeviceTotalMem_v2(size_t *n, int d) { *n = MEMORY; return OK; }
CUresult cuDeviceGetAttribute(int *v, int a, int d) {
  switch (a) {
  case 1: *v = 1024; break;
  case 8: *v = 49152; break;
  case 16: *v = 20; break;
  case 18: *v = 0; break;
  case 75: *v = d == 70 ? 8 : 3; break;
  case 76: *v = d == 70 ? 6 : 5; break;
  default: return INVALID_VALUE;
  }
  return OK;
}
CUresult cuDeviceGetPCIBusId(char *s, int n, int d) { strncpy(s, d == 70 ? "0000:0A:00.0" : "0000:0B:00.0", n); return OK; }

// ---- contexts
CUresult cuDevicePrimaryCtxSetFlags_v2(int d, unsigned f) { return OK; }
CUresult cuDevicePrimaryCtxRetain(uintptr_t *c, int d) {
  ENTER(0);
  retained[d - 70]++;
  *c = 0xC0 + d;
  return OK;
}
CUresult cuDevicePrimaryCtxRelease_v2(int d) {
  ENTER(0);
  if (!retained[d - 70]) return INVALID_CONTEXT;
  retained[d - 70]--;
  return OK;
}
CUresult cuDevicePrimaryCtxReset_v2(int d) { resets++; sticky = 0; return OK; }
CUresult cuCtxSetCurrent(uintptr_t c) { ENTER(0); current = c; return OK; }

// ---- the stream: operations wait here
struct op { void *to; const void *from; size_t n; };
static struct op *queue;
static size_t queued, room, done;
static void put(void *to, const void *from, size_t n) {
  if (queued == room) queue = realloc(queue, (room = room ? 2 * room : 64) * sizeof *queue);
  queue[queued++] = (struct op){to, from, n};
}
#define ADD ((size_t)-1) // the kernel add, of one element
static void drain(size_t until) {
  for (; done < until; done++) {
    struct op o = queue[done];
    if (o.n == ADD) *(float *)o.to += *(const float *)o.from;
    else memcpy(o.to, o.from, o.n);
  }
}
CUresult cuStreamCreate(uintptr_t *s, unsigned f) { ENTER(1); live_streams++; *s = 0x57; return OK; }
CUresult cuStreamDestroy_v2(uintptr_t s) { live_streams--; return OK; }
CUresult cuStreamSynchronize(uintptr_t s) {
  ENTER(1);
  if (s != 0x57) return INVALID_HANDLE;
  waits++;
  drain(queued);
  return OK;
}
static int asked;
int fake_asked(void) { int n = asked; asked = 0; return n; }
CUresult cuStreamQuery(uintptr_t s) {
  ENTER(1);
  if (s != 0x57) return INVALID_HANDLE;
  asked++;
  return done < queued ? 600 : OK;
}
CUresult cuEventCreate(size_t **e, unsigned f) { ENTER(1); live_events++; *e = calloc(1, sizeof **e); return OK; }
CUresult cuEventDestroy_v2(size_t *e) { live_events--; free(e); return OK; }
CUresult cuEventRecord(size_t *e, uintptr_t s) { ENTER(1); *e = queued; return OK; }
CUresult cuEventSynchronize(size_t *e) { ENTER(1); waits++; drain(*e); return OK; }

// ---- memory
CUresult cuMemAlloc_v2(size_t **p, size_t n) {
  ENTER(1);
  if (!n || used + n > MEMORY) return n ? NO_MEMORY : INVALID_VALUE;
  size_t *m = malloc(n + 256);
  *m = n;
  memset((char *)m + 256, fill, n);
  used += n;
  live_device++;
  *p = (size_t *)((char *)m + 256);
  return OK;
}
CUresult cuMemFree_v2(char *p) {
  drain(queued);
  used -= *(size_t *)(p - 256);
  live_device--;
  free(p - 256);
  return OK;
}
CUresult cuMemGetInfo_v2(size_t *free, size_t *total) { ENTER(1); *free = MEMORY - used; *total = MEMORY; return OK; }
CUresult cuMemHostAlloc(void **p, size_t n, unsigned f) { ENTER(1); live_pinned++; *p = malloc(n); return OK; }
CUresult cuMemFreeHost(void *p) { live_pinned--; free(p); return OK; }
CUresult cuMemcpyHtoDAsync_v2(void *d, const void *h, size_t n, uintptr_t s) { ENTER(1); copied("write"); put(d, h, n); return OK; }
CUresult cuMemcpyDtoHAsync_v2(void *h, const void *d, size_t n, uintptr_t s) { ENTER(1); copied("read"); put(h, d, n); return OK; }

// ---- kernels: a function is its entry in the module's text
static char *text;
CUresult cuModuleLoadDataEx(char **m, const char *t, unsigned n, int *options, void **values) {
  CUresult r = entered(__func__, 1);
  if (r) {
    if (n == 2 && options[0] == 5 && options[1] == 6 && (uintptr_t)values[1] > 32) strcpy(values[0], "line 7: the fake's compiler refuses");
    return r;
  }
  live_modules++;
  *m = text = strdup(t);
  return OK;
}
CUresult cuModuleUnload(char *m) { live_modules--; free(m); text = NULL; return OK; }
CUresult cuModuleGetFunction(const char **f, char *m, const char *name) {
  ENTER(1);
  size_t n = strlen(name);
  for (const char *p = m; (p = strstr(p, ".visible .entry ")); p += 16)
    if (!strncmp(p + 16, name, n) && p[16 + n] == '(') {
      *f = p + 16;
      return OK;
    }
  return NOT_FOUND;
}
static struct { char name[64]; unsigned grid[3], group[3]; int args; uint64_t arg[32]; } last;
static long launches;

// ---- what came to the stream, in order: kernels' names and first two integers, "write", "read"
struct record { char name[64]; uint64_t a, b, second; };
static struct record journal[1 << 16];
static long journaled;
static void note(struct record r) {
  if (journaled < 1 << 16) journal[journaled++] = r;
  if (!strcmp(r.name, "add")) put((void *)r.a, (const void *)r.second, ADD);
}
static void copied(const char *name) { struct record r = {{0}}; strcpy(r.name, name); note(r); }
long fake_journaled(int clear) { long n = journaled; if (clear) journaled = 0; return n; }
const char *fake_journal(long i, uint64_t *a, uint64_t *b) { *a = journal[i].a; *b = journal[i].b; return journal[i].name; }

// ---- graphs
struct graph { long n; struct record r[256]; };
static struct graph *capturing;
static long live_graphs, graph_launches;
long fake_graphs(void) { return live_graphs; }
long fake_graph_launches(void) { return graph_launches; }
#ifndef NO_GRAPHS // a driver before CUDA 11.4
CUresult cuStreamBeginCapture_v2(uintptr_t s, int mode) {
  ENTER(1);
  if (capturing || mode != 1) return INVALID_VALUE;
  live_graphs++;
  capturing = calloc(1, sizeof *capturing);
  return OK;
}
CUresult cuGraphDestroy(struct graph *g) { live_graphs--; free(g); return OK; }
CUresult cuStreamEndCapture(uintptr_t s, struct graph **g) {
  struct graph *mine = capturing;
  CUresult r = entered(__func__, 1);
  if (!mine) return INVALID_VALUE;
  capturing = NULL;
  if (r) { cuGraphDestroy(mine); return r; }
  *g = mine;
  return OK;
}
CUresult cuGraphInstantiateWithFlags(struct graph **e, struct graph *g, unsigned long long flags) {
  ENTER(1);
  if (flags) return INVALID_VALUE;
  live_graphs++;
  *e = malloc(sizeof *g);
  **e = *g;
  return OK;
}
CUresult cuGraphExecDestroy(struct graph *e) { live_graphs--; free(e); return OK; }
CUresult cuGraphLaunch(struct graph *e, uintptr_t s) {
  ENTER(1);
  if (s != 0x57) return INVALID_VALUE;
  graph_launches++;
  launches += e->n;
#ifdef BAD_GRAPHS
  e->n--;
#endif
  for (long i = 0; i < e->n; i++) note(e->r[i]);
  return OK;
}
#endif
CUresult cuLaunchKernel(const char *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, uintptr_t s, void **params, void **extra) {
  ENTER(1);
  if (s != 0x57 || extra || shared || !gx || !gy || !gz || bx * by * bz > 1024) return INVALID_VALUE;
  memset(&last, 0, sizeof last);
  memcpy(last.name, f, strcspn(f, "("));
  last.grid[0] = gx; last.grid[1] = gy; last.grid[2] = gz;
  last.group[0] = bx; last.group[1] = by; last.group[2] = bz;
  const char *end = strchr(f, ')');
  for (const char *p = f; (p = strstr(p, ".param ")) && p < end; p += 7) {
    int wide = !strncmp(p + 7, ".u64", 4);
    memcpy(&last.arg[last.args], params[last.args], wide ? 8 : 4);
    last.args++;
  }
  struct record r = {{0}};
  strcpy(r.name, last.name);
  r.a = last.arg[0];
  r.b = last.arg[last.args - 1];
  r.second = last.arg[1];
  if (capturing) {
    capturing->r[capturing->n++] = r;
    return OK;
  }
  launches++;
  note(r);
  return OK;
}
long fake_launches(void) { return launches; }
uint64_t fake_arg(int i) { return i < 0 ? (uint64_t)last.args : last.arg[i]; }
unsigned fake_size(int i) { return i < 3 ? last.grid[i] : last.group[i - 3]; }
