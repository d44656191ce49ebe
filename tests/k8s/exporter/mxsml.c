/* A library with the symbols and layouts of libmxsml.so, for tests at ABI level. Its cards are a file that the test
 * maps too: the test changes power, removes a card, fails a call. It is written against the public facts and not
 * against our ctypes layer, so that a layout which differs shows as a wrong value. Values are invented.
 *
 * As of the real one: the list of cards is made by mxSmlInit and stays until the next; a card that is gone answers an
 * error; cards are numbered anew. Compiled with -DOLD_LIBRARY, symbols of newer versions are missing. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CARDS 16
#define PORTS 7
#define WAYS 6

enum { SUCCESS = 0, NO_DEVICE = 2, INVALID_ID = 6, INVALID_INPUT = 9, INSUFFICIENT_SIZE = 10, OPEN_FAILED = 21 };

/* In this order in the test's copy. */
enum function {
  F_INIT, F_COUNT, F_INFO, F_VERSION, F_POWER, F_LIMIT, F_TEMPERATURE, F_MEMORY, F_USAGE, F_CLOCKS, F_THROTTLE, F_ECC,
  F_PCIE, F_PCIE_MOST, F_THROUGHPUT, F_LINK_STATE, F_PORTS, F_BANDWIDTH, F_TRAFFIC, F_UNAVAILABLE, FUNCTIONS
};

struct card {
  int present;
  int results[FUNCTIONS]; /* what a function answers instead, if not 0 */
  char uuid[96], bdf[32], name[32];
  unsigned ways, way_mw[WAYS], limit_mw;
  int centidegrees[16];
  long vram_total_kb, vram_used_kb;
  int usage_percent;
  unsigned xcore_mhz[2], memory_mhz;
  unsigned long long throttle;
  unsigned ecc[5];
  float pcie_gts, pcie_most_gts;
  unsigned pcie_lanes, pcie_most_lanes;
  int pcie_received_mb, pcie_sent_mb;
  unsigned link_state, port_states[PORTS];
  int bandwidth_mb[2][PORTS][2];
  long traffic_bytes[2][PORTS][2];
  int unavailable_code;
  char unavailable_reason[64];
};

struct state {
  int init_result;
  volatile int hangs; /* while it is set no call on a card returns */
  int inits, reinits; /* counted for the test */
  struct card cards[CARDS];
  unsigned topology[CARDS][CARDS];
};

static struct state *state;
static int listed[CARDS], count;

static unsigned initialise(void) {
  if (!state) {
    const char *path = getenv("MXSML_STATE");
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0) return OPEN_FAILED;
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (state == MAP_FAILED) { state = NULL; return OPEN_FAILED; }
  }
  if (state->init_result) return (unsigned)state->init_result;
  count = 0;
  for (int i = 0; i < CARDS; i++)
    if (state->cards[i].present) listed[count++] = i;
  return SUCCESS;
}

/* For the tests alone, so that one process can have several states. */
void forget_state(void) { state = NULL; count = 0; }

unsigned mxSmlInit(void) {
  unsigned result = initialise();
  if (state) state->inits++;
  return result;
}

#ifndef OLD_LIBRARY
unsigned mxSmlInitWithFlags(unsigned flags) {
  if (flags != 1) return INVALID_INPUT;
  unsigned result = initialise();
  if (state) state->reinits++;
  return result;
}
#endif

unsigned mxSmlGetDeviceCount(void) { return (unsigned)count; }

static unsigned find(unsigned device, enum function function, struct card **card) {
  if (!state) return NO_DEVICE;
  if (device >= (unsigned)count) return INVALID_ID;
  while (state->hangs) usleep(1000);
  *card = &state->cards[listed[device]];
  if (!(*card)->present) return OPEN_FAILED;
  return (unsigned)(*card)->results[function];
}

#define CARD(function)                                   \
  struct card *card;                                     \
  unsigned result = find(device, function, &card);       \
  if (result) return result

struct device_info {
  unsigned deviceId, type;
  char bdfId[32];
  unsigned gpuId, nodeId;
  char uuid[96];
  unsigned brand, mode;
  char deviceName[32];
};

unsigned mxSmlGetDeviceInfo(unsigned device, struct device_info *info) {
  CARD(F_INFO);
  memset(info, 0, sizeof *info);
  info->deviceId = device;
  info->brand = 2; /* C class */
  strncpy(info->bdfId, card->bdf, sizeof info->bdfId - 1);
  strncpy(info->uuid, card->uuid, sizeof info->uuid - 1);
  strncpy(info->deviceName, card->name, sizeof info->deviceName - 1);
  return SUCCESS;
}

unsigned mxSmlGetDeviceVersion(unsigned device, unsigned unit, char *version, unsigned *size) {
  CARD(F_VERSION);
  if (unit > 1 || *size < 8) return INVALID_INPUT;
  strcpy(version, unit == 0 ? "1.26.1" : "2.16.0");
  return SUCCESS;
}

struct way { unsigned voltage, current, power; };

unsigned mxSmlGetBoardPowerInfo(unsigned device, unsigned *size, struct way *ways) {
  CARD(F_POWER);
  unsigned room = *size;
  *size = card->ways;
  if (room < card->ways) return INSUFFICIENT_SIZE;
  for (unsigned i = 0; i < card->ways; i++) ways[i] = (struct way){12000, 1, card->way_mw[i]};
  return SUCCESS;
}

unsigned mxSmlGetBoardPowerLimit(unsigned device, unsigned *limit) {
  CARD(F_LIMIT);
  *limit = card->limit_mw;
  return SUCCESS;
}

unsigned mxSmlGetTemperatureInfo(unsigned device, unsigned sensor, int *temperature) {
  CARD(F_TEMPERATURE);
  if (sensor >= 16) return INVALID_INPUT;
  if (card->centidegrees[sensor] == 0) return 3;
  *temperature = card->centidegrees[sensor];
  return SUCCESS;
}

struct memory { long visVramTotal, visVramUse, vramTotal, vramUse, xttTotal, xttUse; };

unsigned mxSmlGetMemoryInfo(unsigned device, struct memory *memory) {
  CARD(F_MEMORY);
  *memory = (struct memory){1, 2, card->vram_total_kb, card->vram_used_kb, 3, 4};
  return SUCCESS;
}

unsigned mxSmlGetDeviceIpUsage(unsigned device, unsigned ip, int *usage) {
  CARD(F_USAGE);
  if (ip != 4) return 3;
  *usage = card->usage_percent;
  return SUCCESS;
}

unsigned mxSmlGetClocks(unsigned device, unsigned ip, unsigned *size, unsigned *clocks) {
  CARD(F_CLOCKS);
  unsigned needed = ip == 11 ? 2 : ip == 3 ? 1 : 0;
  if (!needed) return 3;
  unsigned room = *size;
  *size = needed;
  if (room < needed) return INSUFFICIENT_SIZE;
  clocks[0] = ip == 11 ? card->xcore_mhz[0] : card->memory_mhz;
  if (ip == 11) clocks[1] = card->xcore_mhz[1];
  return SUCCESS;
}

unsigned mxSmlGetCurrentClocksThrottleReason(unsigned device, unsigned long long *reasons) {
  CARD(F_THROTTLE);
  *reasons = card->throttle;
  return SUCCESS;
}

struct ecc { unsigned sramCE, sramUE, dramCE, dramUE, retiredPage; };

unsigned mxSmlGetTotalEccErrors(unsigned device, struct ecc *ecc) {
  CARD(F_ECC);
  *ecc = (struct ecc){card->ecc[0], card->ecc[1], card->ecc[2], card->ecc[3], card->ecc[4]};
  return SUCCESS;
}

struct pcie { float speed; unsigned width; };

unsigned mxSmlGetPcieInfo(unsigned device, struct pcie *pcie) {
  CARD(F_PCIE);
  *pcie = (struct pcie){card->pcie_gts, card->pcie_lanes};
  return SUCCESS;
}

#ifndef OLD_LIBRARY
unsigned mxSmlGetPcieMaxLinkInfo(unsigned device, struct pcie *pcie) {
  CARD(F_PCIE_MOST);
  *pcie = (struct pcie){card->pcie_most_gts, card->pcie_most_lanes};
  return SUCCESS;
}
#endif

struct throughput { int rx, tx; };

unsigned mxSmlGetPcieThroughput(unsigned device, struct throughput *throughput) {
  CARD(F_THROUGHPUT);
  *throughput = (struct throughput){card->pcie_received_mb, card->pcie_sent_mb};
  return SUCCESS;
}

unsigned mxSmlGetMetaXLinkState(unsigned device, unsigned *code, char *text, unsigned *size) {
  CARD(F_LINK_STATE);
  if (*size < 16) return INSUFFICIENT_SIZE;
  *code = card->link_state;
  strcpy(text, card->link_state ? "disabled" : "enabled");
  return SUCCESS;
}

unsigned mxSmlGetMetaXLinkPortState(unsigned device, unsigned *states, unsigned *size) {
  CARD(F_PORTS);
  if (*size < PORTS) return INSUFFICIENT_SIZE;
  *size = PORTS;
  memcpy(states, card->port_states, sizeof card->port_states);
  return SUCCESS;
}

struct bandwidth { int request, response; };

unsigned mxSmlGetMetaXLinkBandwidth(unsigned device, unsigned type, unsigned *size, struct bandwidth *bandwidth) {
  CARD(F_BANDWIDTH);
  if (type > 1) return INVALID_INPUT;
  if (*size < PORTS) return INSUFFICIENT_SIZE;
  *size = PORTS;
  for (int i = 0; i < PORTS; i++)
    bandwidth[i] = (struct bandwidth){card->bandwidth_mb[type][i][0], card->bandwidth_mb[type][i][1]};
  return SUCCESS;
}

#ifndef OLD_LIBRARY
struct traffic { long request, response; };

unsigned mxSmlGetMetaXLinkTrafficStat(unsigned device, unsigned type, unsigned *size, struct traffic *traffic) {
  CARD(F_TRAFFIC);
  if (type > 1) return INVALID_INPUT;
  if (*size < PORTS) return INSUFFICIENT_SIZE;
  *size = PORTS;
  for (int i = 0; i < PORTS; i++)
    traffic[i] = (struct traffic){card->traffic_bytes[type][i][0], card->traffic_bytes[type][i][1]};
  return SUCCESS;
}
#endif

struct unavailable { int unavailableCode; char unavailableReason[64]; };

unsigned mxSmlGetDeviceUnavailableReason(unsigned device, struct unavailable *reason) {
  CARD(F_UNAVAILABLE);
  memset(reason, 0, sizeof *reason);
  reason->unavailableCode = card->unavailable_code;
  strncpy(reason->unavailableReason, card->unavailable_reason, sizeof reason->unavailableReason - 1);
  return SUCCESS;
}

unsigned mxSmlGetDeviceTopology(unsigned device, unsigned other, unsigned *level) {
  CARD(F_INFO);
  if (other >= (unsigned)count) return INVALID_ID;
  *level = state->topology[listed[device]][listed[other]];
  return SUCCESS;
}

/* For the tests alone: a structure that is too small on the other side shows in no value, it only breaks memory. */
const unsigned structure_sizes[] = {
  sizeof(struct device_info), sizeof(struct memory), sizeof(struct way), sizeof(struct pcie), sizeof(struct throughput),
  sizeof(struct bandwidth), 2 * sizeof(long), sizeof(struct ecc), sizeof(struct unavailable),
};
