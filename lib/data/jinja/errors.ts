/** What Jinja2 or Python would raise, as "TypeError: ...", or what is refused here by name. */
export class TemplateError extends Error {
  override name = 'TemplateError';
}

/** The template itself refused the conversation with raise_exception. */
export class RaisedByTemplate extends TemplateError {}

/** Something that Jinja2 does and that is not done here: refused by name, never done differently. */
export function notSupported(what: string): TemplateError {
  return new TemplateError(`${what} is not supported`);
}

export function typeError(message: string): TemplateError {
  return new TemplateError(`TypeError: ${message}`);
}

export function valueError(message: string): TemplateError {
  return new TemplateError(`ValueError: ${message}`);
}
