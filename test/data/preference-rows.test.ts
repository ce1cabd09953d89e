import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadPairs } from '../../lib/data/datasets.js';

t.test('every published form of preferences gives prompt, chosen and rejected', async (t) => {
  const path = join(t.testdir({}), 'pairs.jsonl');
  const user = { role: 'user', content: 'Name a fruit.' };
  const say = (content: string) => ({ role: 'assistant', content });
  const pear = { chosen: 'Pear.', rejected: 'Chair.' };
  const conversations = { chosen: [user, say('Pear.')], rejected: [user, say('Chair.')] };
  const answers = { chosen: [say('Pear.')], rejected: [say('Chair.')] };
  const asked = { prompt: [user], ...pear };
  const system = { role: 'system', content: 'Be brief.' };
  const forms: [object, object][] = [
    [{ prompt: 'Name a fruit.', ...conversations, score_chosen: 8, margin: 6 }, asked],
    [{ prompt: [user], ...conversations }, asked],
    [{ prompt: [user], ...answers }, asked],
    [{ ...conversations, messages: conversations.chosen }, asked],
    [{ messages: [user], ...pear }, asked],
    [
      { prompt: 'Name a fruit.', ...pear },
      { prompt: 'Name a fruit.', ...pear },
    ],
    [
      { question: 'Name a fruit.', ...pear, system: '' },
      { prompt: 'Name a fruit.', ...pear },
    ],
    [
      { question: 'Name a fruit.', ...pear, system: 'Be brief.' },
      { prompt: [system, user], ...pear },
    ],
    [
      { instruction: 'Name', input: 'a fruit.', ...pear },
      { prompt: 'Name\n\na fruit.', ...pear },
    ],
    // As TRL's extract_prompt: the blank before the answers is theirs.
    [
      { chosen: 'Human: a fruit?\n\nAssistant: Pear.', rejected: 'Human: a fruit?\n\nAssistant: Chair.' },
      { prompt: 'Human: a fruit?\n\nAssistant:', chosen: ' Pear.', rejected: ' Chair.' },
    ],
    // Conversations that differ earlier than in their last turn.
    [
      {
        chosen: [user, say('Pear.'), user, say('Fig.')],
        rejected: [user, say('Chair.'), user, say('Sofa.')],
      },
      {
        prompt: [user],
        chosen: [say('Pear.'), user, say('Fig.')],
        rejected: [say('Chair.'), user, say('Sofa.')],
      },
    ],
  ];
  for (const [row, expected] of forms) {
    writeFileSync(path, JSON.stringify(row));
    const [record] = (await loadPairs(path)).records;
    t.strictSame(record, { id: 'pairs-1', ...expected }, JSON.stringify(row));
  }
  const refused: [object, RegExp][] = [
    [{ chosen: 'Pear.', rejected: 'Chair.' }, /prompt is missing, and chosen and rejected have no beginning/],
    [
      { chosen: [user, say('a')], rejected: [{ ...user, content: 'Other?' }, say('b')] },
      /one conversation up to a turn of the assistant/,
    ],
    [
      { prompt: [{ ...user, content: 'Other?' }], ...conversations },
      /does not begin with the messages of prompt/,
    ],
  ];
  for (const [row, message] of refused) {
    writeFileSync(path, JSON.stringify(row));
    await t.rejects(loadPairs(path), { code: 'INVALID_DATA', message });
  }
});
