import t from 'tap';
import { readModelConfig, modelConfigText, withDtype } from '../../lib/data/model-config.js';
import { jsonText, setMember } from '../../lib/data/json-text.js';

// What is written back keeps the spelling of everything that was not meant to change.

const TEXT = `{
    "a": 500000.0, "big": 12345678901234567890,
  "small": 1e-05,\t"zero": -0.0, "escaped \\"dtype\\"": "caf\\u00e9 \\ud83d\\ude00",
  "nested": {"dtype": "stays", "list": [1.0, {"dtype": 1}]},
  "dtype": "float16"
}
`;

t.test('a member is replaced where it stands, and nothing else', async (t) => {
  t.equal(setMember(TEXT, 'dtype', 'float32'), TEXT.replace('"float16"', '"float32"'));
  t.equal(setMember('{"a":{"b":1},"c":[2]}', 'a', 'x'), '{"a":"x","c":[2]}');
  t.equal(setMember('{"a":{"b":1},"c":[2, 3] }', 'c', 'x'), '{"a":{"b":1},"c":"x" }');
  t.equal(setMember('{"a":"a","b":"a"}', 'b', '"'), '{"a":"a","b":"\\""}');
  t.equal(setMember(String.raw`{"\u0061": 1}`, 'a', 'x'), String.raw`{"\u0061": "x"}`, 'an escaped name');
  t.equal(setMember('{"a": 1, "a": 2}', 'a', 'x'), '{"a": "x", "a": "x"}', 'a name that is there twice');
});

t.test('a new member comes last, as the others are indented', async (t) => {
  t.equal(setMember('{\n    "a": 1.0\n}\n', 'b', 'x'), '{\n    "a": 1.0,\n    "b": "x"\n}\n');
  t.equal(setMember('{"a":[1,{"b":2}]}', 'b', 'x'), '{"a":[1,{"b":2}],"b": "x"}');
  t.equal(setMember('{}', 'b', 'x'), '{\n  "b": "x"}');
  const text = setMember(TEXT, 'torch_dtype', 'x');
  t.strictSame(JSON.parse(text), { ...(JSON.parse(TEXT) as object), torch_dtype: 'x' });
  t.ok(text.startsWith(TEXT.slice(0, TEXT.indexOf('"float16"'))));
});

t.test('the dtype is written under the names that the file has', async (t) => {
  t.equal(withDtype(TEXT, 'float16'), TEXT);
  t.equal(
    withDtype('{"torch_dtype": "float16", "dtype": "float32"}', 'float32'),
    '{"torch_dtype": "float32", "dtype": "float32"}',
  );
  t.equal(withDtype('{"a": 1.0}', 'float32'), '{"a": 1.0,"torch_dtype": "float32"}');
});

t.test('whole numbers where Python has floats are written as floats', async (t) => {
  t.equal(
    jsonText({ a: 3, b: 3, c: 1e-5, nested: { a: -4 } }, ['a', 'c']).replaceAll(/\s+/g, ''),
    '{"a":3.0,"b":3,"c":0.00001,"nested":{"a":-4.0}}',
  );
  const config = readModelConfig(
    {
      model_type: 'llama',
      vocab_size: 8,
      hidden_size: 8,
      intermediate_size: 8,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      max_position_embeddings: 64,
      rms_norm_eps: 1,
      rope_scaling: { type: 'linear', factor: 4 },
    },
    'here',
  );
  const text = modelConfigText(config, 'float32');
  for (const line of [
    '"rope_theta": 10000.0,',
    '"factor": 4.0',
    '"rms_norm_eps": 1.0,',
    '"attention_dropout": 0.0,',
    '"vocab_size": 8,',
  ])
    t.ok(text.includes(line), line);
  t.strictSame(readModelConfig(JSON.parse(text), 'here'), { ...config, modelType: 'llama' });
});
