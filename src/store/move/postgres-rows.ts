import type { Video } from '../../publication/video.ts'
import { lookupKey } from '../postgres/list.ts'
import { columnsOf, videoOf } from '../postgres/row.ts'
import { hot } from '../postgres/statements.ts'
import type { Row, Table } from './side.ts'

/** How the rows of a table are stored in PostgreSQL. */
export interface Mapping {
  /** Select list, with the names that `read` expects. */
  selected: string
  read(row: Row): Row
  /** Inserts what `write` made of rows, given as one JSON array. */
  insert(place: string): string
  write(row: Row): Row
}

const videoColumns = {
  id: 'text',
  document: 'json',
  platform: 'text',
  stage: 'text',
  reference: 'text',
  version: 'bigint',
  epoch: 'bigint',
  next_check_at: 'bigint',
  checked_at: 'bigint',
  checks: 'bigint',
  bytes_received: 'bigint',
  updated_at: 'bigint',
}

const videos: Mapping = {
  selected: `document, ${hot}`,
  read: (row) => ({ ...videoOf(row) }),
  insert: (place) => insertion(place, videoColumns),
  write: (row) => columnsOf(row as unknown as Video),
}

export function mappingOf({ name: table, columns, escaped = [] }: Table): Mapping {
  if (table === 'videos') return videos
  const names = Object.keys(columns)
  const change = (row: Row, how: (text: string) => string): Row => ({
    ...row,
    ...Object.fromEntries(escaped.map((name) => [name, how(row[name] as string)])),
  })
  return {
    selected: names.map((name) => `${snake(name)} AS "${name}"`).join(', '),
    read: (row) => change(row, unescaped),
    insert: (place) =>
      insertion(place, Object.fromEntries(names.map((name) => [snake(name), columns[name] as string]))),
    write(row) {
      const changed = change(row, lookupKey)
      return Object.fromEntries(names.map((name) => [snake(name), changed[name]]))
    },
  }
}

/** A JSON column is text within the array: the array's parser would reject some of its escapes. */
function insertion(place: string, columns: Record<string, string>): string {
  const names = Object.keys(columns)
  const types = Object.entries(columns).map(([name, type]) => `${name} ${type === 'json' ? 'text' : type}`)
  return `INSERT INTO ${place} (${names.join(', ')})
    SELECT ${names.map((name) => (columns[name] === 'json' ? `${name}::json` : name)).join(', ')}
    FROM json_to_recordset($1::json) AS moved (${types.join(', ')})`
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** The reverse of `lookupKey`. */
function unescaped(text: string): string {
  return JSON.parse(`"${text}"`)
}
