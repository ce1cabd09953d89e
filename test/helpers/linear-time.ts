/**
 * Milliseconds of processor time that the work takes: unlike the clock it does not count what other processes do. Only
 * for bounds that tell linear time from quadratic, a thousand times apart.
 */
export function processorMs(work: () => void): number {
  const start = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}
