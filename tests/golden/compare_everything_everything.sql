delete from "new_purchase"."change_set";

insert into "new_purchase"."change_set"
with difference as (
  select coalesce(d."cusD365id", m."cusD365id") as key,
         case when d."cusD365id" is null then 'delete'
              when e."cusD365id" is not null then 'adopt'
              when m."cusD365id" is not null then 'update'
              else 'insert' end as kind,
         list_filter([case when d."cusName" is distinct from m."cusName" then 'cusName' end, case when d."cusChannel" is distinct from m."cusChannel" then 'cusChannel' end, case when false then 'cusQuantity' end, case when d."cusContactId" is distinct from m."cusContactId" then 'cusContactId' end], lambda name: name is not null) as changed
  from "new_purchase"."desired" as d
  full join "new_purchase"."mirror" as m on d."cusD365id" = m."cusD365id"
  left join "new_purchase"."existing" as e on d."cusD365id" = e."cusD365id"
  where (m."cusD365id" is null
   or d."cusD365id" is null and m."cusD365id" in (select "new_purchaseid" from "new_purchase"."snapshot")
     or d."cusD365id" is not null and (d."cusName" is distinct from m."cusName" or d."cusChannel" is distinct from m."cusChannel" or d."cusContactId" is distinct from m."cusContactId"))
)
select key, kind, case when kind = 'update' then changed end as changed, case kind when 'insert' then 1 when 'update' then 2 when 'adopt' then 2 when 'delete' then 1 end as engine_calls
from difference;
