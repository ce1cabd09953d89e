// Loaded before a test file by run-tests.cjs: says which test begins, so that one which crashes or hangs has a name.
import tap from 'tap';

tap.beforeEach((test) => {
  if (test.parent === tap) process.stderr.write(`# begins: ${test.name}\n`);
});
