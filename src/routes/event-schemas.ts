import { Type } from '@sinclair/typebox'
import { eventTypes } from '../publication/events.ts'
import { time } from './schemas.ts'

export const VideoEvent = Type.Object(
  {
    id: Type.String({ description: 'Id of the event; the same if the event arrives again.' }),
    type: Type.Union(
      eventTypes.map((type) => Type.Literal(type)),
      { description: 'Kind of change; `video.updated` is any other change.' },
    ),
    timestamp: time('Time of the change.'),
    data: Type.Ref('Video'),
  },
  { $id: 'Event' },
)

export const EventPage = Type.Object({
  items: Type.Array(Type.Ref('Event')),
  nextCursor: Type.String({
    description: 'Pass it as `after` to get later events, also after an empty page.',
  }),
})
