/* Fused loops over task vectors: what torch does in a dozen passes over memory, done in one, block by block as the
 * weights are read from their files, so that a block is still in the processor's cache when it is used.
 *
 * Every function gives bit for bit what its torch counterpart in updates.py gives: fp32, the same order of
 * additions, no fused multiply-add (built with -ffp-contract=off). Sizes and types are the caller's business.
 * Functions return 0, or -1 if a file cannot be read or ends early, unless they say otherwise.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { F32, BF16, F16 };
enum { BLOCK = 1 << 14 };              /* elements read at once: six models of them fit the second-level cache */
enum { TILE = 512, ROW = TILE + 16 };  /* rows of 4 KiB steps would fight for the same cache lines */
enum { LANES = 8 };                    /* of a vector; TILE is a multiple of it */

/* Weights in memory, or from `position` (bytes) on in a file. */
typedef struct {
    const void *data;
    int64_t position;
    int32_t descriptor;
    int32_t type;
} source_t;

typedef struct {
    source_t base;
    const source_t *specialists;
    int32_t num_specialists;
} sources_t;

typedef float vector_t __attribute__((vector_size(LANES * 4)));
typedef int32_t mask_t __attribute__((vector_size(LANES * 4)));

static vector_t load(const float *values) {
    vector_t vector;
    memcpy(&vector, values, sizeof vector);
    return vector;
}

static void store(float *values, vector_t vector) { memcpy(values, &vector, sizeof vector); }

static vector_t where(mask_t mask, vector_t vector) { return (vector_t)((mask_t)vector & mask); }

static vector_t magnitude(vector_t vector) { return (vector_t)((mask_t)vector & 0x7FFFFFFF); }

static vector_t all(float value) { return value - (vector_t){0}; }

static vector_t count_of(mask_t counts) { return __builtin_convertvector(counts, vector_t); }

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static int size_of(int32_t type) { return type == F32 ? 4 : 2; }

static int read_all(int descriptor, char *out, int64_t count, int64_t position) {
    while (count > 0) {
        ssize_t done = pread(descriptor, out, (size_t)count, position);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        out += done, position += done, count -= done;
    }
    return 0;
}

/* Return elements start to start + n: where they lie, or read into `buffer`; NULL if that fails. */
static const void *fetch(const source_t *source, int64_t start, int64_t n, void *buffer) {
    int size = size_of(source->type);
    if (source->data) return (const char *)source->data + start * size;
    return read_all(source->descriptor, buffer, n * size, source->position + start * size) ? NULL : buffer;
}

static void widen(const void *data, int32_t type, int64_t start, int n, float *restrict out) {
    if (type == F32) {
        memcpy(out, (const float *)data + start, (size_t)n * 4);
    } else if (type == BF16) {
        const uint16_t *values = (const uint16_t *)data + start;
        for (int i = 0; i < n; i++) out[i] = float_of((uint32_t)values[i] << 16);
    } else {
        const _Float16 *values = (const _Float16 *)data + start;
        for (int i = 0; i < n; i++) out[i] = (float)values[i];
    }
}

/* A block of all models, and the task vectors of a tile of it: rows[t][i] = specialist t minus base. */
typedef struct {
    const sources_t *sources;
    char *buffers;
    const void **data; /* base first */
    float (*rows)[ROW];
} block_t;

static int open_block(block_t *block, const sources_t *sources) {
    size_t num_models = 1 + (size_t)sources->num_specialists;
    block->sources = sources;
    block->buffers = malloc(num_models * BLOCK * 4);
    block->data = malloc(num_models * sizeof *block->data);
    block->rows = calloc(num_models, sizeof *block->rows);
    return block->buffers && block->data && block->rows ? 0 : -1;
}

static void close_block(block_t *block) {
    free(block->buffers);
    free(block->data);
    free(block->rows);
}

static int read_block(block_t *block, int64_t start, int64_t n) {
    const sources_t *sources = block->sources;
    for (int t = 0; t <= sources->num_specialists; t++) {
        const source_t *source = t ? &sources->specialists[t - 1] : &sources->base;
        block->data[t] = fetch(source, start, n, block->buffers + (size_t)t * BLOCK * 4);
        if (!block->data[t]) return -1;
    }
    return 0;
}

static void subtract(const void *data, int32_t type, int64_t start, int n, const float *restrict base,
                     float *restrict row) {
    if (type == F32) {
        const float *values = (const float *)data + start;
        for (int i = 0; i < n; i++) row[i] = values[i] - base[i];
    } else if (type == BF16) {
        const uint16_t *values = (const uint16_t *)data + start;
        for (int i = 0; i < n; i++) row[i] = float_of((uint32_t)values[i] << 16) - base[i];
    } else {
        const _Float16 *values = (const _Float16 *)data + start;
        for (int i = 0; i < n; i++) row[i] = (float)values[i] - base[i];
    }
}

static void task_vectors(block_t *block, int64_t start, int n) {
    float base[ROW];
    widen(block->data[0], block->sources->base.type, start, n, base);
    for (int t = 0; t < block->sources->num_specialists; t++)
        subtract(block->data[t + 1], block->sources->specialists[t].type, start, n, base, block->rows[t]);
}

static int min(int64_t a, int64_t b) { return (int)(a < b ? a : b); }

/* Run BODY for every tile of n elements: `place` is its first element, `size` their number, `rows` the task vectors;
 * what BODY writes into `result` becomes `out`. */
#define EACH_TILE(sources, n, out, BODY)                                                            \
    block_t block;                                                                                  \
    float result[ROW];                                                                              \
    int status = open_block(&block, sources), num_rows = (sources)->num_specialists;                \
    const float(*rows)[ROW] = (const float(*)[ROW])block.rows;                                      \
    for (int64_t first = 0; first < (n) && !status; first += BLOCK) {                               \
        int64_t end = first + min((n) - first, BLOCK);                                              \
        status = read_block(&block, first, end - first);                                            \
        for (int64_t place = first; place < end && !status; place += TILE) {                        \
            int size = min(end - place, TILE);                                                      \
            task_vectors(&block, place - first, size);                                              \
            BODY                                                                                    \
            if (out) memcpy((float *)(out) + place, result, (size_t)size * 4);                      \
        }                                                                                           \
    }                                                                                               \
    close_block(&block);                                                                            \
    return status

/* The task vector of the first specialist. */
int32_t task_vector(const sources_t *sources, int64_t n, float *out) {
    EACH_TILE(sources, n, out, memcpy(result, rows[0], sizeof result); (void)num_rows;);
}

/* Sum of task vectors, each entry kept where low[t] <= |entry| <= high[t]; if `is_mean` divided by how many were kept
 * that are not 0. Without bounds everything is kept, and the mean is over all. */
static void sum_tile(const float (*rows)[ROW], int num_rows, int size, int is_mean, float *result) {
    vector_t number = all((float)num_rows);
    for (int i = 0; i < size; i += LANES) {
        vector_t sum = {0};
        for (int t = 0; t < num_rows; t++) sum += load(rows[t] + i);
        store(result + i, is_mean ? sum / number : sum);
    }
}

static void kept_tile(const float (*rows)[ROW], int num_rows, int size, const float *low, const float *high,
                      int is_mean, float *result) {
    for (int i = 0; i < size; i += LANES) {
        vector_t sum = {0};
        mask_t count = {0};
        for (int t = 0; t < num_rows; t++) {
            vector_t value = load(rows[t] + i), large = magnitude(value);
            mask_t is_kept = (large >= all(low ? low[t] : 0.0f)) & (large <= all(high ? high[t] : INFINITY));
            sum += where(is_kept, value);
            count -= is_kept & (value != 0.0f);
        }
        count -= count == 0;
        store(result + i, is_mean ? sum / count_of(count) : sum);
    }
}

int32_t kept_sum(const sources_t *sources, int64_t n, const float *low, const float *high, int32_t is_mean,
                 float *out) {
    EACH_TILE(sources, n, out, if (low || high) kept_tile(rows, num_rows, size, low, high, is_mean, result);
              else sum_tile(rows, num_rows, size, is_mean, result););
}

/* TIES: keep |entry| >= low[t], elect the sign of the sum, average the entries that agree with it. */
static void elected_tile(const float (*rows)[ROW], int num_rows, int size, const float *low, float *result) {
    for (int i = 0; i < size; i += LANES) {
        vector_t sum = {0}, positive = {0}, negative = {0};
        mask_t num_positive = {0}, num_negative = {0};
        for (int t = 0; t < num_rows; t++) {
            vector_t value = load(rows[t] + i), kept = where(magnitude(value) >= all(low[t]), value);
            mask_t is_positive = kept > 0.0f, is_negative = kept < 0.0f;
            sum += kept;
            positive += where(is_positive, kept);
            negative += where(is_negative, kept);
            num_positive -= is_positive;
            num_negative -= is_negative;
        }
        mask_t is_positive = sum > 0.0f;
        vector_t part = (vector_t)(((mask_t)positive & is_positive) | ((mask_t)negative & ~is_positive));
        mask_t count = (num_positive & is_positive) | (num_negative & ~is_positive);
        store(result + i, where(sum != 0.0f, part / count_of(count)));
    }
}

int32_t elected_mean(const sources_t *sources, int64_t n, const float *low, float *out) {
    EACH_TILE(sources, n, out, elected_tile(rows, num_rows, size, low, result););
}

/* Philox4x64-10 (Salmon et al. 2011) as numpy's `Philox(key)` counts: block b is made from counter b + 1.
 * Four blocks at a time, so that their multiplications overlap; 64 numbers of 16 bits. */
enum { PHILOX_BLOCKS = 4, NUMBERS = 16 * PHILOX_BLOCKS };

static void philox(uint64_t block, uint64_t key0, uint64_t key1, uint64_t *restrict words) {
    uint64_t c[4][PHILOX_BLOCKS];
    for (int b = 0; b < PHILOX_BLOCKS; b++)
        c[0][b] = block + 1 + (uint64_t)b, c[1][b] = c[0][b] == 0, c[2][b] = 0, c[3][b] = 0;
    for (int round = 0; round < 10; round++) {
        for (int b = 0; b < PHILOX_BLOCKS; b++) {
            unsigned __int128 left = (unsigned __int128)0xD2E7470EE14C6C93ULL * c[0][b];
            unsigned __int128 right = (unsigned __int128)0xCA5A826395121157ULL * c[2][b];
            c[0][b] = (uint64_t)(right >> 64) ^ c[1][b] ^ key0;
            c[1][b] = (uint64_t)right;
            c[2][b] = (uint64_t)(left >> 64) ^ c[3][b] ^ key1;
            c[3][b] = (uint64_t)left;
        }
        key0 += 0x9E3779B97F4A7C15ULL;
        key1 += 0xBB67AE8584CAA73BULL;
    }
    for (int b = 0; b < PHILOX_BLOCKS; b++)
        for (int k = 0; k < 4; k++) words[4 * b + k] = c[k][b];
}

/* 16-bit numbers of a stream, for elements offset to offset + n. */
static void random_numbers(const uint64_t *key, int64_t offset, int n, uint16_t *restrict out) {
    uint64_t words[NUMBERS / 4];
    for (int done = 0; done < n;) {
        int skip = (int)((offset + done) % 16), take = NUMBERS - skip < n - done ? NUMBERS - skip : n - done;
        philox((uint64_t)((offset + done) / 16), key[0], key[1], words);
        memcpy(out + done, (const uint16_t *)(const void *)words + skip, (size_t)take * 2);
        done += take;
    }
}

/* Sum of task vectors whose entries are kept where their random number is below `level`, divided by `density`. */
static void random_tile(const float (*rows)[ROW], int num_rows, int size, const uint64_t *keys, int64_t offset,
                        int32_t level, float density, float *restrict result) {
    uint16_t number[ROW];
    memset(result, 0, (size_t)size * 4);
    for (int t = 0; t < num_rows; t++) {
        random_numbers(keys + 2 * t, offset, size, number);
        for (int i = 0; i < size; i++) result[i] += number[i] < level ? rows[t][i] : 0.0f;
    }
    for (int i = 0; i < size; i++) result[i] = result[i] / density;
}

int32_t random_sum(const sources_t *sources, int64_t n, const uint64_t *keys, int64_t offset, int32_t level,
                   float density, float *out) {
    EACH_TILE(sources, n, out,
              random_tile(rows, num_rows, size, keys, offset + place, level, density, result););
}

/* Consensus TA: the sum of task vectors where at least `least_votes` masks |entry| >= threshold * |sum - entry|
 * agree; with `only` >= 0 where the mask of that task vector alone is set. */
static void consensus_tile(const float (*rows)[ROW], int num_rows, int size, const float *thresholds,
                           int32_t least_votes, int32_t only, float *result) {
    int first = only < 0 ? 0 : only, end = only < 0 ? num_rows : only + 1;
    int32_t least = only < 0 ? least_votes : 1;
    for (int i = 0; i < size; i += LANES) {
        vector_t sum = {0};
        mask_t votes = {0};
        for (int t = 0; t < num_rows; t++) sum += load(rows[t] + i);
        for (int t = first; t < end; t++) {
            vector_t value = load(rows[t] + i);
            votes -= magnitude(value) >= magnitude(sum - value) * thresholds[t];
        }
        store(result + i, where(votes >= least, sum));
    }
}

int32_t consensus_sum(const sources_t *sources, int64_t n, const float *thresholds, int32_t least_votes, int32_t only,
                      float *out) {
    EACH_TILE(sources, n, out, consensus_tile(rows, num_rows, size, thresholds, least_votes, only, result););
}

/* Counts of magnitude bits of one task vector, or of any values: the high 15 into `tables` unless that is NULL; for
 * each range of `span` bit patterns from `starts` on, how many lie above it, and each pattern within it in `low`.
 *
 * Neighbours are counted in tables of their own: many task vectors hold few different values, and increments of the
 * same counter wait for each other. Vectors without a member of a range, nearly all, are passed over.
 */
enum { BINS = 1 << 15, TABLES = 4 };

typedef struct {
    uint32_t *tables;
    const int32_t *starts;
    int64_t *above;
    int64_t *low;
    int32_t num_ranges;
    int32_t span;
} counts_t;

static void count_high(const float *values, int n, uint32_t *tables) {
    int i = 0;
    for (; i + TABLES <= n; i += TABLES)
        for (int k = 0; k < TABLES; k++) tables[k * BINS + (bits_of(values[i + k]) >> 16 & (BINS - 1))]++;
    for (; i < n; i++) tables[bits_of(values[i]) >> 16 & (BINS - 1)]++;
}

static int any(mask_t mask) {
    uint64_t words[LANES / 2];
    memcpy(words, &mask, sizeof words);
    return (words[0] | words[1] | words[2] | words[3]) != 0;
}

static void count_range(const float *values, int n, int32_t start, int32_t end, int64_t *above, int64_t *low) {
    mask_t num_above = {0}, num_zeros = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        mask_t bits = (mask_t)load(values + i) & 0x7FFFFFFF, is_above = bits >= end, is_zero = bits == 0;
        mask_t is_member = (bits >= start) & ~is_above & ~is_zero; /* weights that did not move are many */
        num_above -= is_above;
        num_zeros -= is_zero;
        if (any(is_member))
            for (int k = 0; k < LANES; k++)
                if (is_member[k]) low[bits[k] - start]++;
    }
    for (int k = 0; k < LANES; k++) *above += num_above[k];
    for (int k = 0; k < LANES && !start; k++) low[0] += num_zeros[k];
    for (; i < n; i++) {
        int32_t bits = (int32_t)(bits_of(values[i]) & 0x7FFFFFFF);
        *above += bits >= end;
        if (bits >= start && bits < end) low[bits - start]++;
    }
}

static void count_tile(const float *values, int n, const counts_t *counts) {
    if (counts->tables) count_high(values, n, counts->tables);
    for (int r = 0; r < counts->num_ranges; r++) {
        int32_t start = counts->starts[r], end = start > INT32_MAX - counts->span ? INT32_MAX : start + counts->span;
        count_range(values, n, start, end, counts->above + r, counts->low + (int64_t)r * counts->span);
    }
}

int32_t count_values(const float *values, int64_t n, const counts_t *counts) {
    for (int64_t start = 0; start < n; start += TILE) count_tile(values + start, min(n - start, TILE), counts);
    return 0;
}

/* Count every task vector into counts of its own. */
int32_t count_task_vectors(const sources_t *sources, int64_t n, const counts_t *counts) {
    EACH_TILE(sources, n, NULL, for (int t = 0; t < num_rows; t++) count_tile(rows[t], size, counts + t);
              (void)result;);
}

static uint16_t round_bf16(float value) {
    uint32_t bits = bits_of(value), rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC0 : rounded);
}

/* Whether every value's exponent is below the one of infinity and NaN. */
static int is_all_finite(const void *data, int32_t type, int64_t n) {
    uint32_t bad = 0;
    if (type == F32) {
        const uint32_t *bits = data;
        for (int64_t i = 0; i < n; i++) bad |= (bits[i] & 0x7F800000) == 0x7F800000;
    } else {
        const uint16_t *bits = data;
        uint16_t mask = type == BF16 ? 0x7F80 : 0x7C00;
        for (int64_t i = 0; i < n; i++) bad |= (bits[i] & mask) == mask;
    }
    return !bad;
}

int32_t all_finite(const void *data, int32_t type, int64_t n) { return is_all_finite(data, type, n); }

/* Write round(base + coefficient * update) in the base's type into `out`; return 1 if all of it is finite, 0 if not.
 * `update` may lie in memory that another process writes: each element is loaded once, into a tile of our own. */
int32_t apply_update(const source_t *base, const float *update, float coefficient, int64_t n, void *out) {
    float wide[ROW], scaled[ROW];
    char *buffer = malloc(BLOCK * 4);
    int is_finite = 1, size_of_item = size_of(base->type), status = buffer ? 0 : -1;
    for (int64_t first = 0; first < n && !status; first += BLOCK) {
        int64_t end = first + min(n - first, BLOCK);
        const void *data = fetch(base, first, end - first, buffer);
        if (!data) status = -1;
        for (int64_t place = first; place < end && !status; place += TILE) {
            int size = min(end - place, TILE);
            char *target = (char *)out + place * size_of_item;
            widen(data, base->type, place - first, size, wide);
            memcpy(scaled, update + place, (size_t)size * 4);
            for (int i = 0; i < size; i++) scaled[i] = scaled[i] * coefficient;
            for (int i = 0; i < size; i++) scaled[i] = scaled[i] + wide[i];
            if (base->type == F32) {
                memcpy(target, scaled, (size_t)size * 4);
            } else if (base->type == BF16) {
                for (int i = 0; i < size; i++) ((uint16_t *)target)[i] = round_bf16(scaled[i]);
            } else {
                for (int i = 0; i < size; i++) ((_Float16 *)target)[i] = (_Float16)scaled[i];
            }
            is_finite &= is_all_finite(target, base->type, size);
        }
    }
    free(buffer);
    return status ? status : is_finite;
}
