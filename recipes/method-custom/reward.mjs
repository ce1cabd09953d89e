// Of a group's responses, those that state an answer and were not cut are better than those that do not; of these, the
// shorter is the better one. A response that cannot be judged at all would be NaN, and its group makes no pair.

const states = /\b(?:the answer is|answer:)\s*\S/i;

/** groups: [{id, prompt, responses: [{text, ids, finishReason}], label?}] -> one list of numbers per group */
export default function reward(groups) {
  return groups.map(({ responses }) =>
    responses.map(({ text, ids, finishReason }) => {
      const isComplete = finishReason === 'stop' && states.test(text);
      return (isComplete ? 1 : 0) - ids.length / 10_000;
    }),
  );
}
