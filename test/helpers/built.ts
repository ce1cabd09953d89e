// The package as users import it: compiled, so that an engine process starts in a fraction of a second. `npm test`
// builds it first.

const compiled = new URL('../../dist/lib/index.js', import.meta.url);

export const built = (await import(compiled.href)) as typeof import('../../lib/index.js');
