/** How many deliveries may be in progress. */
export interface PlaceLimits {
  /** Of all endpoints together, beyond those that each of them may always have. */
  total: number
  /** Of each endpoint. */
  perEndpoint: number
  /** That each endpoint may always have, whatever the others do. */
  reserved: number
}

export interface DeliveryPlaces {
  /**
   * Takes as many places as there are for an endpoint, perhaps none.
   * @param own places that the endpoint has
   */
  take(own: number): number
  giveBack(count: number): void
}

/**
 * Shares the deliveries in progress among the endpoints: endpoints that are slow or dead fill the places that all share,
 * and not those of another one.
 */
export function createDeliveryPlaces({ total, perEndpoint, reserved }: PlaceLimits): DeliveryPlaces {
  let taken = 0
  return {
    take(own) {
      const count = Math.max(0, reserved - own, Math.min(perEndpoint - own, total - taken))
      taken += count
      return count
    },
    giveBack(count) {
      taken -= count
    },
  }
}
