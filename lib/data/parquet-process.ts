import { writeSync } from 'node:fs';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { writeJson } from './exact-json.js';
import { cellConverters, parsers } from './parquet-cells.js';

// The process that reads a Parquet file and writes its rows as JSON Lines on standard output; parquet.ts starts it and
// is its only user. It is a process because a damaged file can make the library claim memory without bound, and throw
// where nobody can catch.

/** A row group is held in memory as a whole; published data sets have groups of some megabytes. */
const MAX_GROUP_BYTES = 2 ** 30;
const MAX_REASON = 300;

/** Ends the process with a reason on standard error. */
function fail(cause: unknown): never {
  const reason = cause instanceof Error ? cause.message : String(cause);
  writeSync(2, reason.replaceAll(/\s+/g, ' ').slice(0, MAX_REASON));
  process.exit(1);
}

process.on('unhandledRejection', fail);
process.on('uncaughtException', fail);
/** Nobody reads any more. */
const abandoned = () => process.exit(1);
process.on('disconnect', abandoned);

/** Resolves when the reader has room for more. */
const write = (text: string) =>
  new Promise<void>((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });

async function print(path: string): Promise<void> {
  const file = await asyncBufferFromFile(path);
  const metadata = await parquetMetadataAsync(file, { geoparquet: false });
  const converters = [...cellConverters(metadata)];
  let rowStart = 0;
  for (const [index, group] of metadata.row_groups.entries()) {
    const bytes = group.columns.reduce(
      (sum, { meta_data: column }) => sum + Number(column?.total_uncompressed_size ?? 0),
      0,
    );
    if (!(bytes >= 0 && bytes <= MAX_GROUP_BYTES)) {
      throw new Error(
        `row group ${index + 1} unpacks to ${bytes} bytes, more than ${MAX_GROUP_BYTES}; write smaller row groups`,
      );
    }
    const rowEnd = rowStart + Number(group.num_rows);
    const options = { file, metadata, compressors, parsers, rowStart, rowEnd, utf8: false };
    const rows = await parquetReadObjects(options);
    if (rows.length !== rowEnd - rowStart) {
      throw new Error(`row group ${index + 1} has ${rows.length} rows in place of ${rowEnd - rowStart}`);
    }
    for (const [i, row] of rows.entries()) {
      try {
        const cells = converters.map(([name, convert]) => [name, convert(row[name])]);
        await write(`${writeJson(Object.fromEntries(cells))}\n`);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`row ${rowStart + i + 1}, ${reason}`, { cause });
      }
    }
    rowStart = rowEnd;
  }
}

await print(process.argv[2]!).catch(fail);
process.off('disconnect', abandoned);
process.disconnect();
