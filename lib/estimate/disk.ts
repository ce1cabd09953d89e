import type { CreamConfig } from '../config.js';
import type { MemoryPart } from './memory.js';
import { bytesOf, type Dtype } from './sizes.js';
import type { Workload } from './work.js';

/** A sampled token as JSON text: its id, a comma, and about four letters of decoded text. */
const BYTES_PER_TOKEN = 11;
/** samples, scores and ranks hold every response; pairs two of them. */
const FULL_RECORDS = 3;
/** Two checkpoints of a training are kept while a third is written. */
const CHECKPOINTS = 3;

/** What a run folder holds at its largest, in bytes. */
export function diskOf(
  config: CreamConfig,
  { total, adapter }: { total: number; adapter: number },
  dtype: Dtype,
  { sft, prompts, lengths }: Workload,
): MemoryPart[] {
  const trained = config.lora === undefined ? total : adapter;
  const model = config.lora === undefined ? total * bytesOf(dtype) : adapter * 4;
  const models = config.iterations + (sft === undefined ? 0 : 1);
  const { n } = config.sampling;
  const perGroup =
    (lengths.prompt + n * lengths.response) * FULL_RECORDS + lengths.prompt + 2 * lengths.response;
  return [
    {
      what: `${models} ${config.lora === undefined ? 'checkpoints' : 'adapters'} M1 .. M${config.iterations + 1}`,
      bytes: models * model,
    },
    { what: 'training state while a training runs', bytes: models > 0 ? CHECKPOINTS * trained * 12 : 0 },
    { what: 'records', bytes: config.iterations * prompts * perGroup * BYTES_PER_TOKEN },
  ];
}
