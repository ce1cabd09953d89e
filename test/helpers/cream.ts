import { spawn } from 'node:child_process';
import { cp, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkpoint } from './golden.js';

// The compiled program, as a user starts it.

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const PROGRAM = join(ROOT, 'dist', 'bin', 'cream.js');

export interface Outcome {
  /** null when a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface CreamOptions {
  cwd?: string;
  stdin?: string;
  env?: Record<string, string>;
}

/** The test runner's own settings (colours among them) are not the program's. */
export function plainEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const { PATH, HOME } = process.env;
  return { PATH, HOME, LANG: 'C.UTF-8', ...extra };
}

/** Runs `cream` and waits for its end. Standard output and error are pipes. */
export function cream(args: readonly string[], { cwd, stdin, env }: CreamOptions = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, ...args], {
      env: plainEnvironment(env),
      ...(cwd === undefined ? {} : { cwd }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
    child.stdin.on('error', () => undefined); // a program that does not read its input may end first
    child.stdin.end(stdin ?? '');
  });
}

export function jsonLines<T = Record<string, unknown>>(text: string): T[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

const SPECIAL = ['<unk>', '<s>', '</s>'];
const VOCABULARY = 131;

/** The golden Llama of 30,816 random parameters with a tokenizer of one token a character, BOS in front. */
export async function writeLlama(directory: string): Promise<string> {
  await cp(checkpoint('llama'), directory, { recursive: true });
  const printable = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
  const filler = Array.from({ length: VOCABULARY - SPECIAL.length - 96 }, (_, i) =>
    String.fromCharCode(0xc0 + i),
  );
  const tokens = [...SPECIAL, ...printable, '\n', ...filler];
  const tokenizer = {
    version: '1.0',
    added_tokens: SPECIAL.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: 'Fuse' },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    add_bos_token: true,
    bos_token: '<s>',
    eos_token: '</s>',
    unk_token: '<unk>',
    chat_template:
      "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}" +
      '{% if add_generation_prompt %}assistant: {% endif %}',
  };
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify(config));
  return directory;
}

/** Trains `model` of a folder by `cream sft` into `other`: another model of the same shape, for base and previous policy. */
export async function trainOther(cwd: string): Promise<void> {
  const chat = [
    { role: 'user', content: 'hi' },
    { role: 'assistant', content: 'there' },
  ];
  const rows = [{ prompt: 'abc', completion: 'def' }, { messages: chat }];
  await writeFile(join(cwd, 'sft.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const options = '--epochs 2 --learning-rate 0.01 --batch-size 2 --metrics metrics.jsonl'.split(' ');
  const made = await cream(['sft', '-m', 'model', '-i', 'sft.jsonl', '-o', 'other', ...options], { cwd });
  if (made.code !== 0) throw new Error(made.stderr);
}
