import type { LoraOptions } from '../data/adapter.js';
import type { ModelConfig } from '../data/model-config.js';
import {
  activationBytesPerRow,
  adapterParameters,
  bytesOf,
  type Dtype,
  type EngineKind,
  headBytes,
  parameterCounts,
  type Recompute,
} from './sizes.js';

// What a training needs of memory, part by part, and how many tokens fit into a micro-batch.

export interface MemoryPart {
  what: string;
  bytes: number;
}

export interface TrainingShape {
  model: ModelConfig;
  dtype: Dtype;
  engine: EngineKind;
  /** Adapters in place of all weights. */
  lora?: LoraOptions | undefined;
}

export interface TrainingMemoryOptions {
  recompute: Recompute;
  momentsDtype: Dtype;
  gradientsDtype: Dtype;
}

/** Memory of a training whose micro-batches have `rows` tokens. The first part is the model itself. */
export function trainingMemory(
  { model, dtype, engine, lora }: TrainingShape,
  { recompute, momentsDtype, gradientsDtype }: TrainingMemoryOptions,
  rows: number,
): MemoryPart[] {
  const { total } = parameterCounts(model);
  const trained = lora === undefined ? total : adapterParameters(model, lora);
  const parts: MemoryPart[] = [{ what: 'weights of the policy', bytes: total * bytesOf(dtype) }];
  const add = (what: string, perParameter: number) => {
    if (perParameter > 0) parts.push({ what, bytes: trained * perParameter });
  };
  if (lora !== undefined) add('adapter', bytesOf(dtype));
  if (dtype === 'bfloat16') {
    const isSplit = engine === 'gpu' && lora === undefined;
    add(isSplit ? 'low half of the float32 master' : 'float32 master', isSplit ? 2 : 4);
  }
  add(`gradient, ${gradientsDtype}`, bytesOf(gradientsDtype));
  add(`two moments, ${momentsDtype}`, 2 * bytesOf(momentsDtype));
  parts.push(
    {
      what: `activations of ${Math.round(rows)} tokens`,
      bytes: rows * activationBytesPerRow(model, dtype, recompute),
    },
    {
      what: 'chunk of logits and its gradient',
      bytes: headBytes(model, 'train', { engine, rows, isFrozen: lora !== undefined }),
    },
  );
  return parts;
}

export interface TrainingPlan {
  /** With micro-batches of `maxTokensPerBatch`; the first part, the model, is in memory already. */
  parts: MemoryPart[];
  /** All parts together. */
  totalBytes: number;
  /** Of the device, before the training begins. */
  freeBytes: number;
  maxTokensPerBatch: number;
  gradientsDtype: Dtype;
  /** Whether the parts beside the model fit into the free memory. */
  fits: boolean;
}

export interface PlanOptions {
  recompute: Recompute;
  momentsDtype: Dtype;
  gradientsDtype: Dtype | 'auto';
  maxTokensPerBatch: number | 'auto';
  /** Rows of the longest example: a micro-batch holds at least one. */
  longest: number;
  /** Rows of a whole batch: more cannot come together. */
  batchRows: number;
  freeBytes: number;
}

/**
 * Left free: what allocators lose in gaps, and what libraries take for themselves. Beyond EFFICIENT tokens more room is
 * worth more than a larger micro-batch, and float32 sums of gradients are not worth less.
 */
const RESERVE = 0.06;
const COMFORT = 0.12;
/** Micro-batches from which on matrix products of large models run at full speed. */
const EFFICIENT = 4096;
/** Larger micro-batches make matrix products no faster. */
const MOST_TOKENS = 16_384;
const STEP = 256;

const sum = (parts: readonly MemoryPart[]) => parts.reduce((bytes, part) => bytes + part.bytes, 0);

/** Chooses what was left to `auto`, and says what the training needs. */
export function planTraining(shape: TrainingShape, options: PlanOptions): TrainingPlan {
  const { recompute, momentsDtype, longest, batchRows, freeBytes } = options;
  const mayBeHalf = shape.engine === 'gpu' && shape.dtype === 'bfloat16' && shape.lora === undefined;
  const candidates: Dtype[] =
    options.gradientsDtype === 'auto'
      ? mayBeHalf
        ? ['float32', 'bfloat16']
        : ['float32']
      : [options.gradientsDtype];
  const most = Math.max(longest, Math.min(batchRows, MOST_TOKENS));
  const enough = Math.min(most, EFFICIENT);

  const planWith = (gradientsDtype: Dtype): TrainingPlan & { isRoomy: boolean } => {
    const memory = (rows: number) => trainingMemory(shape, { recompute, momentsDtype, gradientsDtype }, rows);
    const fitsAt = (rows: number, reserve: number) => sum(memory(rows).slice(1)) <= freeBytes * (1 - reserve);
    const wanted = (rows: number) => fitsAt(rows, rows > enough ? COMFORT : RESERVE);
    let maxTokensPerBatch: number;
    if (options.maxTokensPerBatch === 'auto') {
      maxTokensPerBatch = Math.ceil(most / STEP) * STEP;
      while (maxTokensPerBatch > longest && !wanted(Math.min(maxTokensPerBatch, most))) {
        maxTokensPerBatch = Math.max(longest, maxTokensPerBatch - STEP);
      }
    } else {
      ({ maxTokensPerBatch } = options);
    }
    const rows = Math.max(longest, Math.min(maxTokensPerBatch, batchRows));
    const parts = memory(rows);
    return {
      parts,
      totalBytes: sum(parts),
      freeBytes,
      maxTokensPerBatch,
      gradientsDtype,
      fits: fitsAt(rows, RESERVE),
      isRoomy: fitsAt(rows, COMFORT) && (options.maxTokensPerBatch !== 'auto' || maxTokensPerBatch >= enough),
    };
  };
  const plans = candidates.map(planWith);
  // bfloat16 sums only where float32 ones leave too little room for an efficient micro-batch.
  const { isRoomy: _, ...plan } = plans.find(({ isRoomy }) => isRoomy) ?? plans.at(-1)!;
  return plan;
}
