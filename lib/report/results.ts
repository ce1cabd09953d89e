import { z } from 'zod';
import { ACCURACY_KINDS, type AccuracyKind } from '../run/summary.js';

// What a stage recorded in the manifest, as far as a report shows it. A field of another type than this package writes
// is left out: a folder may be damaged, or made by somebody else.

const orNone = <Type extends z.ZodType>(type: Type) => type.optional().catch(undefined);
const number = orNone(z.number());
const numberOrNull = orNone(z.number().nullable());
const counts = orNone(z.record(z.string(), z.number()));
const interval = z.tuple([z.number(), z.number()]);

const accuracy = orNone(
  z.object({
    correct: z.number(),
    total: z.number(),
    accuracy: z.number(),
    interval,
    unparsable: z.number().default(0),
    truncated: z.number().default(0),
  }),
);

/** Over tasks. */
const mean = orNone(z.object({ mean: z.number(), interval: interval.nullable().default(null) }));

const ofEachKind = <Type extends z.ZodType>(type: Type) =>
  Object.fromEntries(ACCURACY_KINDS.map((kind) => [kind, type])) as Record<AccuracyKind, Type>;

const stageResult = z.object({
  prompts: number,
  responses: number,
  truncatedResponses: number,
  emptyResponses: number,
  meanResponseTokens: number,
  consistency: orNone(
    z.object({
      mean: z.number().nullable(),
      interval: interval.nullable(),
      tau: z.number().nullable(),
      nullTauDeviation: z.number().nullable(),
      nullBand: interval.nullable(),
      groups: z.number(),
      undefinedGroups: z.record(z.string(), z.number()),
      belowHalf: z.number(),
    }),
  ),
  rewardNoise: orNone(
    z.object({
      spread: z.number().nullable(),
      noise: z.number().nullable(),
      repeatTau: z.number().nullable(),
      groups: z.number(),
    }),
  ),
  policyFrom: orNone(z.enum(['scoring', 'generation'])),
  sampler: orNone(
    z.object({
      groups: z.number(),
      meanDifference: z.number(),
      maxDifference: z.number(),
      meanPerToken: z.number(),
      tau: z.number().nullable(),
    }),
  ),
  rankingAccuracy: numberOrNull,
  rewardCorrelation: numberOrNull,
  sampleAccuracy: numberOrNull,
  history: orNone(z.array(z.object({ model: z.string(), tau: z.number().nullable(), groups: z.number() }))),
  pairs: number,
  droppedGroups: counts,
  meanWeight: numberOrNull,
  choices: counts,
  metrics: counts,
  tasks: orNone(z.array(z.object({ name: z.string(), ...ofEachKind(accuracy) }))),
  mean: orNone(z.object(ofEachKind(mean))),
});

/** The fields of a stage's result that are what they should be. */
export function checkedResult(result: unknown): Record<string, unknown> {
  const checked = stageResult.safeParse(result);
  if (!checked.success) return {};
  return Object.fromEntries(Object.entries(checked.data).filter(([, value]) => value !== undefined));
}
