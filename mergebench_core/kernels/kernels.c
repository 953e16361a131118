/* Fused loops over task vectors: what torch does in a dozen passes over memory, done in one.
 *
 * Every function gives bit for bit what its torch counterpart in updates.py gives: fp32, the same order of
 * additions, no fused multiply-add (built with -ffp-contract=off). Values are read once and never checked here:
 * sizes and types are the caller's business.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { F32, BF16, F16 };
enum { TILE = 512, ROW = TILE + 16 };  /* rows of 4 KiB steps would fight for the same cache lines */

typedef struct {
    const void *base;
    int32_t base_type;
    int32_t num_specialists;
    const void *const *specialists;
    const int32_t *types;
} models_t;

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
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

/* Run BODY for i in [0, n) with `float value` = specialist t minus base; `base` is widened already. */
#define EACH_OF_TYPE(LOAD, BODY)                  \
    for (int i = 0; i < n_; i++) {                \
        float value = (LOAD) - base[i];           \
        BODY                                      \
    }
#define EACH_ENTRY(m, t, start, n, BODY)                                      \
    do {                                                                      \
        int n_ = (n);                                                         \
        if ((m)->types[t] == F32) {                                           \
            const float *x_ = (const float *)(m)->specialists[t] + (start);   \
            EACH_OF_TYPE(x_[i], BODY)                                         \
        } else if ((m)->types[t] == BF16) {                                   \
            const uint16_t *x_ = (const uint16_t *)(m)->specialists[t] + (start); \
            EACH_OF_TYPE(float_of((uint32_t)x_[i] << 16), BODY)               \
        } else {                                                              \
            const _Float16 *x_ = (const _Float16 *)(m)->specialists[t] + (start); \
            EACH_OF_TYPE((float)x_[i], BODY)                                  \
        }                                                                     \
    } while (0)

static int tile_size(int64_t n, int64_t start) { return (int)(n - start < TILE ? n - start : TILE); }

/* The task vector of the first specialist. */
void task_vector(const models_t *m, int64_t n, float *restrict out) {
    float base[ROW];
    for (int64_t start = 0; start < n; start += TILE) {
        int size = tile_size(n, start);
        float *restrict vector = out + start;
        widen(m->base, m->base_type, start, size, base);
        EACH_ENTRY(m, 0, start, size, vector[i] = value;);
    }
}

/* Sum of task vectors, each entry kept where low[t] <= |entry| <= high[t]; if `is_mean` divided by how many were kept
 * that are not 0. Without bounds everything is kept, and the mean is over all. */
void kept_sum(const models_t *m, int64_t n, const float *low, const float *high, int32_t is_mean, float *restrict out) {
    float base[ROW], count[ROW];
    for (int64_t start = 0; start < n; start += TILE) {
        int size = tile_size(n, start);
        float *restrict sum = out + start;
        widen(m->base, m->base_type, start, size, base);
        memset(sum, 0, (size_t)size * 4);
        memset(count, 0, sizeof count);
        for (int t = 0; t < m->num_specialists; t++) {
            float least = low ? low[t] : 0.0f, most = high ? high[t] : INFINITY;
            if (!low && !high)
                EACH_ENTRY(m, t, start, size, sum[i] += value;);
            else
                EACH_ENTRY(m, t, start, size, {
                    int is_kept = (fabsf(value) >= least) & (fabsf(value) <= most);
                    sum[i] += is_kept ? value : 0.0f;
                    count[i] += is_kept & (value != 0.0f) ? 1.0f : 0.0f;
                });
        }
        float all = (float)m->num_specialists;
        if (is_mean && !low && !high)
            for (int i = 0; i < size; i++) sum[i] = sum[i] / all;
        else if (is_mean)
            for (int i = 0; i < size; i++) sum[i] = sum[i] / (count[i] < 1.0f ? 1.0f : count[i]);
    }
}

/* TIES: keep |entry| >= low[t], elect the sign of the sum, average the entries that agree with it. */
void elected_mean(const models_t *m, int64_t n, const float *low, float *restrict out) {
    float base[ROW], positive[ROW], negative[ROW], num_positive[ROW], num_negative[ROW];
    for (int64_t start = 0; start < n; start += TILE) {
        int size = tile_size(n, start);
        float *restrict sum = out + start;
        widen(m->base, m->base_type, start, size, base);
        for (int i = 0; i < size; i++) sum[i] = positive[i] = negative[i] = num_positive[i] = num_negative[i] = 0.0f;
        for (int t = 0; t < m->num_specialists; t++) {
            float least = low[t];
            EACH_ENTRY(m, t, start, size, {
                float kept = fabsf(value) >= least ? value : 0.0f;
                sum[i] += kept;
                positive[i] += kept > 0.0f ? kept : 0.0f;
                negative[i] += kept < 0.0f ? kept : 0.0f;
                num_positive[i] += kept > 0.0f ? 1.0f : 0.0f;
                num_negative[i] += kept < 0.0f ? 1.0f : 0.0f;
            });
        }
        for (int i = 0; i < size; i++) {
            float total = sum[i];
            float part = total > 0.0f ? positive[i] : negative[i];
            float count = total > 0.0f ? num_positive[i] : num_negative[i];
            float mean = part / (count < 1.0f ? 1.0f : count);
            sum[i] = total != 0.0f ? mean : 0.0f;
        }
    }
}

/* Philox4x64-10 (Salmon et al. 2011) as numpy's `Philox(key)` counts: block b is made from counter b + 1.
 * Four blocks at a time, so that their multiplications overlap; 64 lanes of 16 bits. */
enum { BLOCKS = 4, LANES = 16 * BLOCKS };

static void philox(uint64_t block, uint64_t key0, uint64_t key1, uint64_t *restrict words) {
    uint64_t c[4][BLOCKS];
    for (int b = 0; b < BLOCKS; b++) c[0][b] = block + 1 + (uint64_t)b, c[1][b] = c[0][b] == 0, c[2][b] = 0, c[3][b] = 0;
    for (int round = 0; round < 10; round++) {
        for (int b = 0; b < BLOCKS; b++) {
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
    for (int b = 0; b < BLOCKS; b++)
        for (int k = 0; k < 4; k++) words[4 * b + k] = c[k][b];
}

/* 16-bit lanes of a stream, for elements offset to offset + n. */
static void lanes(uint64_t key0, uint64_t key1, int64_t offset, int n, uint16_t *restrict out) {
    uint64_t words[LANES / 4];
    for (int done = 0; done < n;) {
        int skip = (int)((offset + done) % 16), take = LANES - skip < n - done ? LANES - skip : n - done;
        philox((uint64_t)((offset + done) / 16), key0, key1, words);
        memcpy(out + done, (const uint16_t *)(const void *)words + skip, (size_t)take * 2);
        done += take;
    }
}

/* Sum of task vectors whose entries are kept where their lane is below `level`, divided by `density`. */
void random_sum(const models_t *m, int64_t n, const uint64_t *keys, int64_t offset, int32_t level, float density,
                float *restrict out) {
    float base[ROW];
    uint16_t lane[TILE];
    for (int64_t start = 0; start < n; start += TILE) {
        int size = tile_size(n, start);
        float *restrict sum = out + start;
        widen(m->base, m->base_type, start, size, base);
        memset(sum, 0, (size_t)size * 4);
        for (int t = 0; t < m->num_specialists; t++) {
            lanes(keys[2 * t], keys[2 * t + 1], offset + start, size, lane);
            EACH_ENTRY(m, t, start, size, sum[i] += lane[i] < level ? value : 0.0f;);
        }
        for (int i = 0; i < size; i++) sum[i] = sum[i] / density;
    }
}

/* Consensus TA: the sum of task vectors where at least `least_votes` masks |entry| >= threshold * |sum - entry| agree;
 * with `only` >= 0 where the mask of that task vector alone is set. */
void consensus_sum(const models_t *m, int64_t n, const float *thresholds, int32_t least_votes, int32_t only,
                   float *restrict out) {
    float base[ROW];
    int32_t votes[ROW];
    for (int64_t start = 0; start < n; start += TILE) {
        int size = tile_size(n, start);
        float *restrict sum = out + start;
        widen(m->base, m->base_type, start, size, base);
        memset(sum, 0, (size_t)size * 4);
        memset(votes, 0, sizeof votes);
        for (int t = 0; t < m->num_specialists; t++) EACH_ENTRY(m, t, start, size, sum[i] += value;);
        for (int t = 0; t < m->num_specialists; t++) {
            if (only >= 0 && t != only) continue;
            float threshold = thresholds[t];
            EACH_ENTRY(m, t, start, size, votes[i] += fabsf(value) >= fabsf(sum[i] - value) * threshold;);
        }
        int32_t least = only >= 0 ? 1 : least_votes;
        for (int i = 0; i < size; i++) sum[i] = float_of(bits_of(sum[i]) & -(uint32_t)(votes[i] >= least));
    }
}

/* Count high magnitude bits into `high`; within `width` buckets from each of `firsts` on, low bits into `low`.
 *
 * Neighbours are counted in tables of their own: many task vectors hold few different values, and increments of the
 * same counter wait for each other. Members of a bucket are collected first: a branch would be mispredicted.
 */
enum { BINS = 1 << 15, TABLES = 4 };

static void count_members(const float *values, int n, int32_t first, int32_t width, int64_t *restrict low) {
    uint32_t members[TILE];
    int num_members = 0;
    for (int i = 0; i < n; i++) {
        uint32_t offset = (bits_of(values[i]) & 0x7FFFFFFF) - ((uint32_t)first << 16);
        members[num_members] = offset;
        num_members += offset < (uint32_t)width << 16;
    }
    for (int i = 0; i < num_members; i++) low[members[i]]++;
}

void count_bits(const float *values, int64_t n, int64_t *restrict high, uint32_t *restrict tables,
                const int32_t *firsts, int32_t num_ranges, int32_t width, int64_t *restrict low) {
    memset(tables, 0, sizeof(uint32_t) * BINS * TABLES);
    for (int64_t start = 0; start < n; start += TILE) {
        int size = tile_size(n, start), i = 0;
        const float *tile = values + start;
        for (; i + TABLES <= size; i += TABLES)
            for (int k = 0; k < TABLES; k++) tables[k * BINS + (bits_of(tile[i + k]) >> 16 & (BINS - 1))]++;
        for (; i < size; i++) tables[bits_of(tile[i]) >> 16 & (BINS - 1)]++;
        for (int r = 0; r < num_ranges; r++)
            count_members(tile, size, firsts[r], width, low + ((int64_t)r * width << 16));
    }
    for (int k = 0; k < TABLES; k++)
        for (int i = 0; i < BINS; i++) high[i] += tables[k * BINS + i];
}

static uint16_t round_bf16(float value) {
    uint32_t bits = bits_of(value);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
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

/* out = round(base + coefficient * update) in the base's type; returns whether all of it is finite.
 * `update` may lie in memory that another process writes: each element is loaded once, into a tile of our own. */
int32_t apply_update(const void *base, int32_t type, const float *update, float coefficient, int64_t n, void *out) {
    float wide[ROW], scaled[ROW];
    int is_finite = 1;
    for (int64_t start = 0; start < n; start += TILE) {
        int size = tile_size(n, start);
        widen(base, type, start, size, wide);
        memcpy(scaled, update + start, (size_t)size * 4);
        for (int i = 0; i < size; i++) scaled[i] = scaled[i] * coefficient;
        for (int i = 0; i < size; i++) scaled[i] = scaled[i] + wide[i];
        is_finite &= is_all_finite(scaled, F32, size);
        if (type == F32) {
            memcpy((float *)out + start, scaled, (size_t)size * 4);
        } else if (type == BF16) {
            uint16_t *rounded = (uint16_t *)out + start;
            for (int i = 0; i < size; i++) rounded[i] = round_bf16(scaled[i]);
        } else {
            _Float16 *rounded = (_Float16 *)out + start;
            for (int i = 0; i < size; i++) rounded[i] = (_Float16)scaled[i];
        }
    }
    return is_finite && is_all_finite(out, type, n);
}
