import t from 'tap';
import { intervalChart, lineChart, ticks } from '../../experiment/svg.js';

t.test('ticks are round and inside the limits', async (t) => {
  t.strictSame(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  t.strictSame(ticks(-0.13, 0.32), [-0.1, 0, 0.1, 0.2, 0.3]);
  t.strictSame(ticks(0.51, 0.63), [0.55, 0.6]);
});

t.test('charts draw every point, and names stay text', async (t) => {
  const chart = lineChart({
    title: 'a <b> & "c"',
    xLabel: (x) => `M${x}`,
    yLabel: 'share',
    lines: [
      {
        name: '<script>',
        look: 9,
        points: [
          { x: 1, y: 0.5, error: 0.1 },
          { x: 2, y: 0.7 },
        ],
      },
    ],
  });
  t.match(chart, '<title>a &lt;b&gt; &amp; &quot;c&quot;</title>');
  t.match(chart, '>&lt;script&gt;</text>');
  t.equal(chart.match(/points="([^"]*)"/)![1]!.split(' ').length, 2);
  t.notMatch(chart, 'NaN');
  const rows = [{ name: 'one', values: [0.1, 0.2, 0.3], mean: 0.2, interval: [0, 0.4] as const }];
  const intervals = intervalChart({ title: 'differences', rows });
  t.equal(intervals.match(/<circle/g)!.length, 4, 'three seeds and their mean');
});
