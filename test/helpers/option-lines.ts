/** A command line that a test runs to its end, and what must be in what it prints (standard output, then error). */
export interface OptionLine {
  line: string;
  says?: RegExp;
  /** Sent once the command says what it should; for commands that go on until they are stopped, or for minutes. */
  stop?: { after: RegExp; code: number };
}

const ENGINE = '--device cpu --dtype float32 --threads 1';
const TEXTS = '--chat-template enable_thinking=false';
const TRAIN =
  '--epochs 1 --learning-rate 1e-4 --batch-size 2 --schedule linear --warmup-ratio 0.5 --weight-decay 0.1 ' +
  `--max-grad-norm 0.5 --max-tokens-per-batch 512 --max-length 64 --seed 3 --chat ${TEXTS} --prefix-mismatch error --json -q ${ENGINE}`;

/** In this order: later lines read what earlier ones wrote. Together they give every option of every command. */
export const OPTION_LINES: readonly OptionLine[] = [
  {
    line: `sft --model model --input sft.jsonl --output adapter --metrics sft-steps.jsonl --loss last --lora-rank 2 --lora-alpha 8 ${TRAIN}`,
    says: /"output":"adapter","steps":1,"examples":2/,
  },
  {
    line: `sft --model model --input sft.jsonl --output adapter --force --adapter adapter ${TRAIN} --debug`,
    says: /"output":"adapter"/,
  },
  {
    line: `merge --model model --adapter adapter --output merged --json --dtype float32 --threads 1`,
    says: /"output":"merged","parameters":30816/,
  },
  {
    line: `merge -m model -a adapter -o merged --force -q`,
  },
  {
    line:
      `train --model model --input pairs.jsonl --output trained --metrics train-steps.jsonl ${TRAIN} --beta 0.2 --loss sigmoid-norm ` +
      '--sft-coefficient 0.1 --length-term 0.01 --agreement-coefficient 0.5 --agreement-entropy 0.1 --lora-rank 2 --lora-alpha 4',
    says: /"output":"trained","steps":1,"examples":2.*"loss"/,
  },
  {
    line: `train -m model -i pairs.jsonl -o trained --force --adapter adapter ${TRAIN}`,
    says: /"examples":2/,
  },
  {
    line: `generate --model model --prompt abc --n 2 --max-new-tokens 3 --temperature 0.7 --top-p 0.9 --top-k 5 --seed 7 --stop never --min-p 0.01 --repetition-penalty 1.1 --no-repeat-ngram-size 3 --min-new-tokens 1 --chat ${TEXTS} --json --adapter adapter ${ENGINE}`,
    says: /"promptId":"prompt","sample":1,"text":/,
  },
  {
    line: 'generate -m model --input prompts.jsonl --output responses.txt --max-new-tokens 2 --threads 1',
    says: /wrote 2 responses to responses\.txt/,
  },
  {
    line: `sample --model model --input prompts.jsonl --output samples.jsonl --n 3 --max-new-tokens 4 --temperature 1 --top-p 0.95 --top-k 50 --seed 2 --stream other --min-p 0.01 --repetition-penalty 1.1 --no-repeat-ngram-size 3 --min-new-tokens 1 --chat ${TEXTS} --adapter adapter ${ENGINE}`,
    says: /6 responses to 2 prompts to samples\.jsonl/,
  },
  {
    line: `score --model model --base model --previous merged --input samples.jsonl --output scores.jsonl --reward-model reward --beta 0.3 --previous-reward implicit --length-normalize --per-token --append-stop --chat ${TEXTS} --prefix-mismatch error --read-at turn-end --max-tokens-per-batch 64 --adapter adapter -q ${ENGINE}`,
  },
  {
    line: `score -m model --previous-adapter adapter -i samples.jsonl -q --threads 1`,
    says: /"previousLogprobs":\[/,
  },
  {
    line: 'rank --input scores.jsonl --output ranks.jsonl --metric spearman --rule theorem --history report',
    says: /over 2 of 2 groups/,
  },
  {
    line: 'pair --input ranked.jsonl --output p1.jsonl --weight constant --constant 0.7 --min-consistency 0.1 --ties margin --margin 0.1 --length-band 0.2 --agreement judge',
    says: /1 pairs of 1 groups/,
  },
  {
    line: 'pair -i ranked.jsonl --base-responses base.jsonl',
    says: /"rejectedFrom":"base"/,
  },
  {
    line: `evaluate --model model --task task.jsonl --output answers.jsonl --name t --scoring both --extract exact --max-new-tokens 3 --samples 2 --temperature 0.9 --top-p 0.8 --limit 1 --seed 5 --stop never --chat ${TEXTS} --json --adapter adapter -q ${ENGINE}`,
    says: /"task":"t".*"sampled":\{.*"acc_norm"/,
  },
  {
    line: 'evaluate -m model --task arc-easy=task.jsonl --scoring harness --shots 1 --examples examples.jsonl --sampler first -q --threads 1',
    says: /acc/,
  },
  {
    line: 'evaluate -m model --task arc-easy=task.jsonl --scoring harness --shots 1 --examples examples.jsonl --examples-seed 5 -q --threads 1',
    says: /acc/,
  },
  {
    line: `ranking --input labelled.jsonl --reward worst-of --model model --reference model --previous merged --length-normalize --extract exact --chat ${TEXTS} --prefix-mismatch error --limit 2 --max-tokens-per-batch 64 --name r --output rewards.jsonl --json --adapter adapter -q ${ENGINE}`,
    says: /"name":"r","reward":"worst-of"/,
  },
  {
    line: 'ranking -i labelled.jsonl --reward reward-model -m reward --read-at turn-end -q --threads 1',
    says: /^labelled +[01]\.0000/m,
  },
  {
    line: 'ranking -i labelled.jsonl --reward module --module longest.mjs -q',
    says: /^labelled +1\.0000/m,
  },
  {
    line: 'init made.yaml --model model --prompts prompts.jsonl --sft sft.jsonl --output made-run --force',
    says: /wrote made\.yaml/,
  },
  { line: 'validate run.yaml --strict --json', says: /"model":/ },
  { line: 'estimate run.yaml --response-tokens 4 --gpu h100 --json', says: /"gpu"/ },
  { line: 'estimate run.yaml --no-time', says: /memory/ },
  {
    line: 'run run.yaml --dry-run --json --tracker mlflow --tracker-url http://127.0.0.1:9',
    says: /"trackerUrl":"http:\/\/127\.0\.0\.1:9"/,
  },
  {
    line: `run run.yaml --output ran --seed 4 --resume never --json -q ${ENGINE}`,
    says: /"type":"run","status":"finished"/,
  },
  { line: 'report ran --output report.html --samples 1', says: /report\.html/ },
  { line: 'watch ran --port 0', stop: { after: /http:\/\/127\.0\.0\.1:/, code: 0 } },
  {
    line: 'compare run.yaml --seeds 4 --output compared --allow-different --json -q',
    says: /"type":"comparison"/,
  },
  {
    line: 'demo --output demo --seed 1 --threads 1 --device cpu --dtype bfloat16 --json',
    stop: { after: /"type":"stage"/, code: 130 },
  },
  { line: 'recipes cp demo-cpu copy.yaml --force', says: /wrote copy\.yaml/ },
  { line: 'recipes ls --json', says: /"name":"demo-cpu"/ },
  { line: 'inspect data sft.jsonl --json', says: /"rows":2/ },
  {
    line: `inspect data sft.jsonl --show 1 --model model --loss last --chat ${TEXTS} --prefix-mismatch error`,
    says: /de/,
  },
  { line: 'doctor --json', says: /"usable":true/ },
];
