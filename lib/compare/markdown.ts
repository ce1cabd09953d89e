import type { Comparison } from './results.js';
import { notesOf, tablesOf, type TextTable } from './tables.js';

// compare.md: the tables for a page or an issue.

/** Text that Markdown shows as it is: names and messages may hold anything. */
const plain = (text: string) =>
  text
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/[\\`*_{}[\]<>|#~$]/g, '\\$&')
    .replaceAll('&', '&amp;');

const row = (cells: readonly string[]) => `| ${cells.map(plain).join(' | ')} |`;

const table = ({ title, header, rows }: TextTable) =>
  [
    `## ${plain(title)}`,
    '',
    row(header),
    `|${header.map((_, index) => (index < 2 ? '---' : '---:')).join('|')}|`,
    ...rows.map(row),
  ].join('\n');

export function asMarkdown(comparison: Comparison): string {
  const { contestants, isComplete, runs, warnings } = comparison;
  const missing = runs.filter(({ status }) => status === 'missing').length;
  return [
    `# ${contestants.map(({ name }) => plain(name)).join(', ')}`,
    ...(isComplete || missing === 0 ? [] : [`${missing} of ${runs.length} runs are not finished.`]),
    ...(warnings.length === 0 ? [] : [warnings.map((warning) => `- **${plain(warning)}**`).join('\n')]),
    ...tablesOf(comparison).map(table),
    notesOf(comparison)
      .map((note) => `- ${plain(note)}`)
      .join('\n'),
  ]
    .join('\n\n')
    .concat('\n');
}
