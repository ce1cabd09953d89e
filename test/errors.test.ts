import t from 'tap';
import { CreamError } from '../lib/errors.js';
t.test('CreamError carries its code', async (t) => {
  t.equal(new CreamError('TORCH', 'x').code, 'TORCH');
});
