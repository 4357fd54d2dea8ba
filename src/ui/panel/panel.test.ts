import { describe, expect, test } from 'vitest';
import { defaultSchemes } from '../../../bench/shapes';
import { benchFile, figure, suite } from '../../../bench/testing';
import { meanClipRatios } from '../../format/clip-ratios';
import { csvOf } from './export';
import { insightViews, summarizeSite } from './insight';
import { defaultRequest, offeredSchemes, requestFromQuery, requestQuery } from './request-link';

describe('the link to a run', () => {
  test('brings back the request', () => {
    const request = {
      suites: ['layer', 'decode'],
      shape: 'llama-2-7b',
      schemes: ['fp16', 'mergequant-a8'],
      contexts: [0, 2048],
      samples: 9,
    } as const;
    expect(requestFromQuery(`?${requestQuery(request)}`)).toEqual(request);
  });

  test('schemes with a suffix run, and can be chosen beside the usual ones', () => {
    const query = '?schemes=fp16,mergequant-a4-kv16,mergequant-a5';
    expect(requestFromQuery(query).schemes).toEqual(['fp16', 'mergequant-a4-kv16']);
    expect(offeredSchemes(query)).toEqual([...defaultSchemes, 'mergequant-a4-kv16']);
  });

  test('what it says wrongly is the default', () => {
    expect(requestFromQuery('?suites=nonsense&shape=__proto__&schemes=x&contexts=-1,a&samples=0')).toEqual(
      defaultRequest,
    );
  });
});

test('CSV has one line a figure', () => {
  const text = csvOf(benchFile([suite('ceiling', [figure('ceiling/read', 100, { unit: 'GB/s' })])]));
  expect(text).toBe(
    'id,unit,median,least,most,deviation,samples,clock\nceiling/read,GB/s,100,98,102,1,5,wall\n',
  );
});

describe('insight', () => {
  /** Channel 1 is four times as strong and split in two; channel 3 was pruned. */
  const site = { layer: 0, site: 'attn', steps: [1, 4, 1, 0], columns: [1, 2, 1, 0] } as const;

  test('columns added, channels split and pruned, and how far the strongest stands out', () => {
    expect(summarizeSite(site)).toEqual({ added: 1, split: 1, pruned: 1, peakBefore: 2, peakAfter: 1 });
  });

  test('a table row for each norm, clip ratios by layer', () => {
    const insight = {
      ...{ name: 'Tiny', scheme: 'mergequant', alpha: 5, hiddenSize: 4 },
      ratios: [{ o: 0.9, down: 0.8 }],
      sites: [site],
      clips: null,
    };
    const [peaks, , ratios] = insightViews(insight);
    expect(ratios!.rows).toEqual([['0', '0.9', '0.8']]);
    expect(insightViews({ ...insight, scheme: 'mergequant-static' })).toHaveLength(2);
    expect(peaks!.rows).toEqual([['layer 0, attn', '1', '1', '1', '2', '1', '0.9', '–']]);
    expect(insightViews({ ...insight, sites: [] })).toEqual([]);
    const clips = meanClipRatios({ clipRatios: { ratios: [1, 0.5], attn: [[1, 3]], mlp: [null] } }, 1);
    expect(insightViews({ ...insight, clips })[2]!.rows).toEqual([['0', '0.625', '–']]);
    expect(meanClipRatios({ clipRatios: 'free in form' }, 1)).toBeNull();
  });

  test('nothing split: said so, and drawn once', () => {
    const whole = { ...site, columns: [1, 1, 1, 1] };
    const insight = { ...{ name: 'Tiny', scheme: 'mergequant', alpha: null, hiddenSize: 4 }, clips: null };
    const [peaks] = insightViews({ ...insight, ratios: [], sites: [whole] });
    expect(peaks!.statements).toEqual(['No channel of the 1 norms was split.']);
    expect(peaks!.chart!.groups[0]!.bars.map(({ series }) => series)).toEqual(['before']);
  });
});
