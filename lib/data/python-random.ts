// Python's random.Random for a whole number as seed: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) and the
// draws that are made from it, so that a sample equals the one that Python takes.

const SIZE = 624;
const MIDDLE = 397;

export class PythonRandom {
  readonly #state = new Uint32Array(SIZE);
  #next = SIZE;

  /** As `random.Random(seed)`; the sign of the seed is dropped. */
  constructor(seed: number | bigint) {
    const words: number[] = [];
    let rest = BigInt(seed);
    if (rest < 0n) rest = -rest;
    for (; rest > 0n; rest >>= 32n) words.push(Number(rest & 0xffffffffn));
    this.#initialize(words.length === 0 ? [0] : words);
  }

  /** As `sample(range(length), count)`. */
  sampleIndices(length: number, count: number): number[] {
    if (!Number.isInteger(count) || count < 0 || count > length) {
      throw new RangeError(`cannot draw ${count} of ${length}`);
    }
    const drawn: number[] = [];
    // Python keeps a list of those left where that is smaller than a set of those drawn.
    const setSize = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
    if (length <= setSize) {
      const pool = Array.from({ length }, (_, i) => i);
      for (let i = 0; i < count; i += 1) {
        const j = this.#below(length - i);
        drawn.push(pool[j] as number);
        pool[j] = pool[length - i - 1] as number;
      }
      return drawn;
    }
    const seen = new Set<number>();
    while (drawn.length < count) {
      const j = this.#below(length);
      if (seen.has(j)) continue;
      seen.add(j);
      drawn.push(j);
    }
    return drawn;
  }

  /** Uniform in [0, limit), limit < 2^32: so many bits as the limit has, drawn until they are below it. */
  #below(limit: number): number {
    const bits = 32 - Math.clz32(limit);
    let value: number;
    do value = this.#word() >>> (32 - bits);
    while (value >= limit);
    return value;
  }

  #initialize(key: readonly number[]): void {
    const state = this.#state;
    const mixed = (i: number, factor: number) => {
      const last = state[i - 1] as number;
      return Math.imul(last ^ (last >>> 30), factor);
    };
    state[0] = 19650218;
    for (let i = 1; i < SIZE; i += 1) state[i] = mixed(i, 1812433253) + i;
    let i = 1;
    const wrap = () => {
      i += 1;
      if (i < SIZE) return;
      state[0] = state[SIZE - 1] as number;
      i = 1;
    };
    for (let k = 0; k < Math.max(SIZE, key.length); k += 1) {
      const j = k % key.length;
      state[i] = ((state[i] as number) ^ mixed(i, 1664525)) + (key[j] as number) + j;
      wrap();
    }
    for (let k = 1; k < SIZE; k += 1) {
      state[i] = ((state[i] as number) ^ mixed(i, 1566083941)) - i;
      wrap();
    }
    state[0] = 0x80000000;
  }

  #word(): number {
    if (this.#next === SIZE) this.#regenerate();
    let y = this.#state[this.#next] as number;
    this.#next += 1;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #regenerate(): void {
    const state = this.#state;
    for (let i = 0; i < SIZE; i += 1) {
      const y = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % SIZE] as number) & 0x7fffffff);
      state[i] = (state[(i + MIDDLE) % SIZE] as number) ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }
}
