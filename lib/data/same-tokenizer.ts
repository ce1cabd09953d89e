import { isDeepStrictEqual } from 'node:util';
import { readTokenizerFiles } from './tokenizer-files.js';

/**
 * Whether two model folders turn text, and conversations, into the same ids: the same tokenizer.json, start token, end
 * token and chat template. A padding token, which no text has, may differ.
 */
export async function isSameTokenizer(directory: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all(
    [directory, other].map(async (folder) => {
      const { tokenizer, bosToken, eosToken, addBosToken, chatTemplate } = await readTokenizerFiles(folder);
      const { padding: _, truncation: __, ...text } = tokenizer;
      return { text, bosToken, eosToken, addBosToken, chatTemplate };
    }),
  );
  return isDeepStrictEqual(a, b);
}
