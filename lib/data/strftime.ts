import { CreamError } from '../errors.js';

const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
);
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

const pad = (value: number, width: number) => String(value).padStart(width, '0');

const DIRECTIVES: ReadonlyMap<string, (date: Date) => string> = new Map([
  ['%Y', (date: Date) => String(date.getFullYear())],
  ['%y', (date: Date) => pad(date.getFullYear() % 100, 2)],
  ['%m', (date: Date) => pad(date.getMonth() + 1, 2)],
  ['%d', (date: Date) => pad(date.getDate(), 2)],
  ['%-d', (date: Date) => String(date.getDate())],
  ['%B', (date: Date) => MONTHS[date.getMonth()] as string],
  ['%b', (date: Date) => (MONTHS[date.getMonth()] as string).slice(0, 3)],
  ['%A', (date: Date) => DAYS[date.getDay()] as string],
  ['%a', (date: Date) => (DAYS[date.getDay()] as string).slice(0, 3)],
  ['%H', (date: Date) => pad(date.getHours(), 2)],
  ['%M', (date: Date) => pad(date.getMinutes(), 2)],
  ['%S', (date: Date) => pad(date.getSeconds(), 2)],
  ['%%', () => '%'],
]);

/** Python's `strftime` in the C locale and local time, for the directives that chat templates use. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%-?[^-]?/g, (directive) => {
    const write = DIRECTIVES.get(directive);
    if (write === undefined) {
      throw new CreamError('INVALID_CHECKPOINT', `strftime_now does not know ${directive} (in "${format}")`);
    }
    return write(date);
  });
}
