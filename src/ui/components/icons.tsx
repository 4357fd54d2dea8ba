/** Line drawings on a 20 by 20 grid. Whoever shows one says in words what it stands for. */

const paths = {
  menu: 'M3 5h14M3 10h14M3 15h14',
  plus: 'M10 4v12M4 10h12',
  copy: 'M7.5 7.5h8v9h-8zM12.5 4.5v-1h-8v9h1',
  check: 'M4 10.5l4 4 8-9',
  again: 'M15.5 8.5A6 6 0 1 0 16 11.5M16 4v4.5h-4.5',
  edit: 'M4 16l.7-3.2L13 4.5l2.5 2.5-8.3 8.3L4 16z',
  trash: 'M4 6h12M8 6V4h4v2M5.5 6l.7 10h7.6l.7-10',
  models: 'M10 3l7 3.5-7 3.5-7-3.5L10 3zM3.5 10L10 13.2 16.5 10M3.5 13.3L10 16.5l6.5-3.2',
  settings: 'M3 6h7M14 6h3M3 14h3M10 14h7M10 4v4M6 12v4',
  gauge: 'M3 14a7 7 0 1 1 14 0M10 14l4-5',
  close: 'M5 5l10 10M15 5L5 15',
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 20 20"
      width="18"
      height="18"
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path d={paths[name]} />
    </svg>
  );
}
